package codec

import (
	"encoding/json"
	"math"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// The types of an imaginary service: every kind of member in one place.
type thing struct {
	Name   *string
	Kind   color
	Count  int32
	Limit  *int32
	Size   int64
	Ratio  *float64
	On     bool
	Off    *bool
	At     *time.Time
	Data   []byte
	Names  []string
	Things []thing
	Child  *thing
	Labels map[string]string
	ByName map[string]thing
	Choice choice
	Grid   [][]int32
	//lint:ignore U1000 the codec must pass over what is not exported
	hidden    int
	ErrorCode int32
}

type color string

type choice interface{ isChoice() }

type choiceMemberText struct{ Value string }
type choiceMemberThing struct{ Value thing }

func (*choiceMemberText) isChoice()  {}
func (*choiceMemberThing) isChoice() {}

func testCodec() *Codec {
	return New(Options{Service: "test", LowerCamel: true, Unions: []any{(*choiceMemberText)(nil), (*choiceMemberThing)(nil)}})
}

func ptr[T any](v T) *T { return &v }

func TestJSONDecodes(t *testing.T) {
	tests := []struct {
		in   string
		want thing
	}{
		{``, thing{}},
		{` { } `, thing{}},
		{`{"name":"a","kind":"red","count":-5,"limit":0,"size":9223372036854775807,"on":true}`,
			thing{Name: ptr("a"), Kind: "red", Count: -5, Limit: ptr(int32(0)), Size: math.MaxInt64, On: true}},
		{`{"name":null,"limit":null,"names":null,"labels":null,"child":null,"choice":null,"at":null,"data":null,"on":null}`, thing{}},
		{`{"name":"first","name":"last","names":["a","b"],"names":["c"]}`, thing{Name: ptr("last"), Names: []string{"c"}}},
		{`{"name":"first","name":null}`, thing{}},
		{`{"unknown":[1,{"a":[null,true,"\u00e4"]}],"Name":"another case","name":"x"}`, thing{Name: ptr("x")}},
		{`{"name":"\ud83d\ude42\u00e4\n\/\"\\","count":1e2,"limit":5.0}`, thing{Name: ptr("🙂ä\n/\"\\"), Count: 100, Limit: ptr(int32(5))}},
		{`{"name":"\ud83d \udc00"}`, thing{Name: ptr("\uFFFD \uFFFD")}},
		{`{"ratio":"-Infinity"}`, thing{Ratio: ptr(math.Inf(-1))}},
		{`{"at":1700000000.123}`, thing{At: ptr(time.UnixMilli(1700000000123).UTC())}},
		{`{"at":-1.5}`, thing{At: ptr(time.UnixMilli(-1500).UTC())}},
		{`{"at":"2023-11-14T22:13:20+01:00"}`, thing{At: ptr(time.Date(2023, 11, 14, 21, 13, 20, 0, time.UTC))}},
		{`{"data":"aGk=","names":[],"labels":{}}`, thing{Data: []byte("hi"), Names: []string{}, Labels: map[string]string{}}},
		{`{"things":[{"count":1},{}],"grid":[[1],[],[2,3]]}`, thing{Things: []thing{{Count: 1}, {}}, Grid: [][]int32{{1}, {}, {2, 3}}}},
		{`{"byName":{"a":{"on":true},"b":{}},"labels":{"":"x"}}`,
			thing{ByName: map[string]thing{"a": {On: true}, "b": {}}, Labels: map[string]string{"": "x"}}},
		{`{"choice":{"text":"t","unknown":1,"thing":null}}`, thing{Choice: &choiceMemberText{"t"}}},
		{`{"choice":{"thing":{"count":2}}}`, thing{Choice: &choiceMemberThing{thing{Count: 2}}}},
	}
	for _, tt := range tests {
		var got thing
		if err := testCodec().DecodeJSON([]byte(tt.in), &got, nil); err != nil {
			t.Errorf("%s: %v", tt.in, err)
		} else if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.in, got, tt.want)
		}
	}
}

func TestJSONRefuses(t *testing.T) {
	deep := strings.Repeat(`{"child":`, 200) + "{}" + strings.Repeat("}", 200)
	tests := []struct{ in, want string }{
		{`{"name":5}`, "NUMBER_VALUE can not be converted to a String (at name)"},
		{`{"count":"5"}`, "STRING_VALUE can not be converted to an Integer (at count)"},
		{`{"things":[{},{"on":"true"}]}`, "STRING_VALUE can not be converted to a Boolean (at things.2.member.on)"},
		{`{"labels":{"k":true}}`, "TRUE_VALUE can not be converted to a String (at labels.k.member)"},
		{`{"names":"a"}`, "Unexpected field type: a string, expected a list (at names)"},
		{`{"child":[]}`, "Start of list found where not expected: expected a structure (at child)"},
		{`{"name":{}}`, "Start of structure or map found where not expected: expected a String (at name)"},
		{`{"count":2147483648}`, "2147483648 is out of the range of a 32-bit integer (at count)"},
		{`{"size":9223372036854775808}`, "can not be converted to a 64-bit integer (at size)"},
		{`{"size":1e19}`, "can not be converted to a 64-bit integer (at size)"},
		{`{"count":1.5}`, "1.5 can not be converted to a 32-bit integer (at count)"},
		{`{"ratio":1e999}`, "1e999 is out of the range of a 64-bit number (at ratio)"},
		{`{"at":1e300}`, "1e300 is out of the range of a Timestamp (at at)"},
		{`{"at":"yesterday"}`, "STRING_VALUE can not be converted to a Timestamp: yesterday (at at)"},
		{`{"data":"*"}`, "STRING_VALUE can not be converted to a Blob: it is not base64 (at data)"},
		{`{"names":["a",null]}`, "A list's element is null (at names.2.member)"},
		{`{"labels":{"a":null}}`, "A map's value is null (at labels.a.member)"},
		{`{"choice":{"text":"a","thing":{}}}`, "A union holds more than one member (at choice)"},
		{`{"choice":{"other":1}}`, "A union holds none of its members (at choice)"},
		{"{\"name\":\"\xff\"}", "Invalid UTF-8 in a string (at name)"},
		{"{\"name\":\"a\nb\"}", "Unescaped control character 0x0a in a string (at name)"},
		{`{"name":"\x"}`, "Malformed escape in a string (at name)"},
		{`{"count":01}`, "Unexpected field type: a number, expected a comma or closing bracket"},
		{`{"count":-}`, "Malformed number at offset 9 (at count)"},
		{`{"name":"a"`, "Unexpected end of input: expected a comma or closing bracket"},
		{`{"name":"a",}`, "Unexpected character '}' at offset 12: expected a member name"},
		{`{"on":tru}`, "Unexpected character 't' at offset 6: expected a Boolean (at on)"},
		{`{} x`, "Unexpected character after the end of the document at offset 3"},
		{`[]`, "Start of list found where not expected: expected a structure"},
		{`"x"`, "Unexpected field type: a string, expected a structure"},
		{deep, "Nesting is deeper than 64 levels"},
		{`{"things":[` + strings.Repeat("{},", 1e6) + `{}]}`, "The input is larger than 67108864 bytes once decoded"},
		{`{"unknown":` + strings.Repeat("[", 1e5), "Nesting is deeper than 64 levels"},
	}
	for _, tt := range tests {
		err := testCodec().DecodeJSON([]byte(tt.in), &thing{}, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s:\ngot  %v\nwant %s", tt.in, err, tt.want)
		}
		if _, ok := err.(*Error); !ok {
			t.Errorf("%.60s: %T is no *Error", tt.in, err)
		}
	}
}

func TestEncodesWhatAWSWrites(t *testing.T) {
	tests := []struct {
		in   thing
		want string
	}{
		{thing{}, `{"count":0,"size":0,"on":false,"errorCode":0}`},
		{thing{Names: []string{}, Labels: map[string]string{}, Things: []thing{}, Data: []byte{}, Off: ptr(false)},
			`{"count":0,"size":0,"on":false,"off":false,"data":"","names":[],"things":[],"labels":{},"errorCode":0}`},
		{thing{Name: ptr(""), Kind: "red", At: ptr(time.UnixMilli(1700000000120)), Ratio: ptr(math.NaN()), Choice: &choiceMemberText{"t"}},
			`{"name":"","kind":"red","count":0,"size":0,"ratio":"NaN","on":false,"at":1700000000.12,"choice":{"text":"t"},"errorCode":0}`},
		{thing{Name: ptr("<a>\u2028\"\\\n\x01\xff"), Labels: map[string]string{"b": "2", "a": "1"}},
			`{"name":"<a>` + "\u2028" + `\"\\\n\u0001` + "\uFFFD" + `","count":0,"size":0,"on":false,"labels":{"a":"1","b":"2"},"errorCode":0}`},
	}
	for _, tt := range tests {
		b, err := testCodec().AppendJSON(nil, &tt.in)
		if err != nil || string(b) != tt.want {
			t.Errorf("%v\ngot  %s\nwant %s", err, b, tt.want)
		}
		if !json.Valid(b) {
			t.Errorf("not JSON: %s", b)
		}
	}
}

func TestTimesAreWrittenToTheMillisecond(t *testing.T) {
	for ms, want := range map[int64]string{0: "0", 1: "0.001", 10: "0.01", 120: "0.12", 1000: "1", 1001: "1.001", -1500: "-1.5", -1: "-0.001"} {
		if got := string(appendEpoch(nil, time.UnixMilli(ms))); got != want {
			t.Errorf("%d ms: %s, want %s", ms, got, want)
		}
	}
}

func TestPresenceOfZeroScalars(t *testing.T) {
	paths := []string{"count", "on", "size", "child.count", "things.2.member.on", "byName.k.member.count"}
	check := func(format string, p *Presence, want bool) {
		for _, path := range paths {
			if p.Has(path) != want {
				t.Errorf("%s: presence of %s is %v", format, path, !want)
			}
		}
		if p.Has("things.1.member.on") || p.Has("errorCode") {
			t.Errorf("%s: presence of what was not given", format)
		}
	}
	var p Presence
	in := `{"count":0,"on":false,"size":0,"child":{"count":0},"things":[{},{"on":false}],"byName":{"k":{"count":0}},"errorCode":null}`
	if err := testCodec().DecodeJSON([]byte(in), &thing{}, &p); err != nil {
		t.Fatal(err)
	}
	check("JSON", &p, true)

	p = Presence{}
	var generic any
	if err := json.Unmarshal([]byte(in), &generic); err != nil {
		t.Fatal(err)
	}
	data, err := cbor.Marshal(generic)
	if err != nil {
		t.Fatal(err)
	}
	if err := testCodec().DecodeCBOR(data, &thing{}, &p); err != nil {
		t.Fatal(err)
	}
	check("CBOR", &p, true)

	p = Presence{}
	q := url.Values{"count": {"0"}, "on": {"false"}, "size": {"0"}, "child.count": {"0"}, "things.member.1.count": {"7"},
		"things.member.2.on": {"false"}, "byName.entry.1.key": {"k"}, "byName.entry.1.value.count": {"0"}}
	if err := testCodec().DecodeQuery(q, &thing{}, &p); err != nil {
		t.Fatal(err)
	}
	check("query", &p, true)

	p = Presence{}
	if err := testCodec().DecodeJSON([]byte(`{"things":[{},{}]}`), &thing{}, &p); err != nil {
		t.Fatal(err)
	}
	check("absent", &p, false)
}

func TestQueryDecodes(t *testing.T) {
	tests := []struct {
		in   string
		want thing
	}{
		{"", thing{}},
		{"name=a&kind=red&count=5&on=true&off=FALSE&ratio=1.5&data=aGk%3D&unknown.member.1=x", thing{Name: ptr("a"), Kind: "red", Count: 5, On: true, Off: ptr(false), Ratio: ptr(1.5), Data: []byte("hi")}},
		{"names.member.2=b&names.member.1=a&names.member.10=c", thing{Names: []string{"a", "b", "c"}}},
		{"names=&labels=", thing{Names: []string{}, Labels: map[string]string{}}},
		{"things.member.1.count=1&things.member.1.names.member.1=x&things.member.2.child.on=true", thing{Things: []thing{{Count: 1, Names: []string{"x"}}, {Child: &thing{On: true}}}}},
		{"labels.entry.1.key=a&labels.entry.1.value=1&labels.entry.2.key=b", thing{Labels: map[string]string{"a": "1", "b": ""}}},
		{"at=2023-11-14T22:13:20.5Z", thing{At: ptr(time.UnixMilli(1700000000500).UTC())}},
		{"choice.text=t", thing{Choice: &choiceMemberText{"t"}}},
		{"name=a&name=b", thing{Name: ptr("b")}},
	}
	for _, tt := range tests {
		values, err := url.ParseQuery(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		var got thing
		if err := testCodec().DecodeQuery(values, &got, nil); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", tt.in, err, got, tt.want)
		}
	}
}

func TestQueryRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"count=x":                            `"x" is not a valid 32-bit integer (at count)`,
		"count=2147483648":                   `"2147483648" is not a valid 32-bit integer (at count)`,
		"on=maybe":                           `"maybe" is not a valid boolean (at on)`,
		"at=now":                             `"now" is not a valid timestamp (at at)`,
		"name.x=1":                           `Unexpected complex element: name is a scalar (at name)`,
		"names.member.x=1":                   `"x" is not a position in a list (at names)`,
		"names.member.01=1":                  `"01" is not a position in a list (at names)`,
		"names.member.-1=1":                  `"-1" is not a position in a list (at names)`,
		"labels.entry.1.value=1":             `labels.entry.1 has no key (at labels)`,
		"name=%ff":                           `Invalid UTF-8 in a string (at name)`,
		"choice.text=a&choice.thing.on=true": `A union holds more than one member (at choice)`,
		strings.Repeat("child.", 300) + "on=true": `Nesting is deeper than 64 levels`,
	} {
		values, err := url.ParseQuery(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := testCodec().DecodeQuery(values, &thing{}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %s", in, err, want)
		}
	}
}

func TestXML(t *testing.T) {
	in := thing{Name: ptr("<&>\"'\n\x01"), Names: []string{"a", ""}, Things: []thing{}, Labels: map[string]string{"k": "v"},
		At: ptr(time.UnixMilli(1700000000500)), Data: []byte("hi"), Choice: &choiceMemberText{"t"}, Grid: [][]int32{{1}}}
	got, err := testCodec().AppendXML(nil, &in, "Op", "urn:x", "id")
	want := `<OpResponse xmlns="urn:x"><OpResult><name>&lt;&amp;&gt;&quot;&#39;&#xa;` + "\uFFFD" + `</name><count>0</count><size>0</size><on>false</on>` +
		`<at>2023-11-14T22:13:20.5Z</at><data>aGk=</data><names><member>a</member><member></member></names><things></things>` +
		`<labels><entry><key>k</key><value>v</value></entry></labels><choice><text>t</text></choice><grid><member><member>1</member></member></grid>` +
		`<errorCode>0</errorCode></OpResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></OpResponse>`
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
}

func TestCBORDecodes(t *testing.T) {
	at := time.UnixMilli(1700000000500).UTC()
	tests := []struct {
		in   any
		want thing
	}{
		{map[string]any{"name": "a", "count": -5, "size": int64(math.MinInt64), "on": true, "data": []byte("hi"), "limit": nil}, thing{Name: ptr("a"), Count: -5, Size: math.MinInt64, On: true, Data: []byte("hi")}},
		{map[string]any{"ratio": float32(1.5), "at": cbor.Tag{Number: 1, Content: 1700000000.5}, "count": 5.0}, thing{Ratio: ptr(1.5), At: &at, Count: 5}},
		{map[string]any{"unknown": map[any]any{1: []any{cbor.Tag{Number: 99, Content: "x"}, nil, 1.5}}, "names": []string{"x"}}, thing{Names: []string{"x"}}},
		{map[string]any{"choice": map[string]any{"thing": map[string]any{"count": 2}}, "labels": map[string]string{"a": "b"}}, thing{Choice: &choiceMemberThing{thing{Count: 2}}, Labels: map[string]string{"a": "b"}}},
	}
	for _, tt := range tests {
		data, err := cbor.Marshal(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		var got thing
		if err := testCodec().DecodeCBOR(data, &got, nil); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: %v\ngot  %+v\nwant %+v", tt.in, err, got, tt.want)
		}
	}
	// Open-ended map, list and text in chunks; a half-precision number.
	raw := []byte{0xbf, 0x64, 'n', 'a', 'm', 'e', 0x7f, 0x61, 'a', 0x61, 'b', 0xff,
		0x65, 'n', 'a', 'm', 'e', 's', 0x9f, 0x61, 'x', 0xff, 0x65, 'r', 'a', 't', 'i', 'o', 0xf9, 0x3e, 0x00, 0xff}
	var got thing
	want := thing{Name: ptr("ab"), Names: []string{"x"}, Ratio: ptr(1.5)}
	if err := testCodec().DecodeCBOR(raw, &got, nil); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v", err, got)
	}
}

func TestCBORRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"\xa1\x64name\x05":   "NUMBER_VALUE can not be converted to a String (at name)",
		"\xa1\x65count\x61x": "STRING_VALUE can not be converted to an Integer (at count)",
		"\xa1\x65count\x1b\xff\xff\xff\xff\xff\xff\xff\xff": "out of the range of a 32-bit integer (at count)",
		"\xa1\x62at\x05":                           "NUMBER_VALUE can not be converted to a Timestamp (at at)",
		"\xa1\x62at\xc2\x05":                       "Tag 2 is not a Timestamp (at at)",
		"\xbb\xff\xff\xff\xff\xff\xff\xff\xff":     "Unexpected end of input",
		"\xa1\x7b\xff\xff\xff\xff\xff\xff\xff\xff": "Unexpected end of input",
		"\xa1\x64name\x61\xff":                     "Invalid UTF-8 in a string (at name)",
		"\xa1\x61x" + strings.Repeat("\x81", 1e5):  "Nesting is deeper than 64 levels",
		"\xa1\x61x" + strings.Repeat("\xc1", 1e5):  "Nesting is deeper than 64 levels",
		"\xa0\x00":              "Unexpected bytes after the end of the document at offset 1",
		"\xa1\x65names\x81\xf6": "A list's element is null (at names.1.member)",
		"\x9f\xff":              "LIST_VALUE can not be converted to a structure",
	} {
		if err := testCodec().DecodeCBOR([]byte(in), &thing{}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", in, err, want)
		}
	}
}

// What this codec writes, another CBOR library reads.
func TestCBORAgainstAnotherLibrary(t *testing.T) {
	in := thing{Name: ptr("ä"), Kind: "red", Size: -70000, Ratio: ptr(0.1), On: true, Data: []byte{1}, Names: []string{"x"},
		At: ptr(time.UnixMilli(1700000000500)), Labels: map[string]string{"a": "b"}, Choice: &choiceMemberText{"t"}}
	b, err := testCodec().AppendCBOR(nil, &in)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := cbor.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"name": "ä", "kind": "red", "count": uint64(0), "size": int64(-70000), "ratio": 0.1, "on": true,
		"data": []byte{1}, "names": []any{"x"}, "at": time.UnixMilli(1700000000500), "labels": map[any]any{"a": "b"},
		"choice": map[any]any{"text": "t"}, "errorCode": uint64(0)}
	at, _ := got["at"].(time.Time)
	if !at.Equal(want["at"].(time.Time)) {
		t.Errorf("at: %v", got["at"])
	}
	delete(got, "at")
	delete(want, "at")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}

// The shapes of recursive types are built once, whoever comes first.
func TestShapesAreSharedByGoroutines(t *testing.T) {
	c := testCodec()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			var v thing
			if err := c.DecodeJSON([]byte(`{"child":{"child":{"choice":{"thing":{"count":3}}}}}`), &v, nil); err != nil {
				t.Error(err)
			}
			if b, err := c.AppendJSON(nil, &v); err != nil || !strings.Contains(string(b), `"choice":{"thing":{"count":3,`) {
				t.Errorf("%v: %s", err, b)
			}
		})
	}
	group.Wait()
}
