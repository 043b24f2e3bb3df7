package codec

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"testing"
)

// Whatever is decoded is encoded, and decoded again to the same.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"name":"\u00e4","count":1,"things":[{"on":true}],"choice":{"text":"t"},"labels":{"a":"b"},"x":[1.5e3,null]}`))
	f.Add([]byte(`{"at":1700000000.123,"data":"aGk=","grid":[[1],[]],"ratio":"NaN"}`))
	c := testCodec()
	f.Fuzz(func(t *testing.T, data []byte) {
		var v thing
		if c.DecodeJSON(data, &v, &Presence{}) != nil {
			return
		}
		if len(bytes.TrimSpace(data)) > 0 && !json.Valid(data) {
			t.Fatalf("decoded what is not JSON: %q", data)
		}
		again(t, v, c.AppendJSON, func(b []byte, v any) error { return c.DecodeJSON(b, v, nil) })
	})
}

func FuzzCBOR(f *testing.F) {
	f.Add([]byte("\xa2\x64name\x61a\x65count\x01"))
	f.Add([]byte("\xbf\x64name\x7f\x61a\xff\x62at\xc1\xfb\x41\xd9\x54\xfc\x40\x20\x00\x00\x61x\x82\xf9\x3e\x00\xa0\xff"))
	c := testCodec()
	f.Fuzz(func(t *testing.T, data []byte) {
		var v thing
		if c.DecodeCBOR(data, &v, &Presence{}) != nil {
			return
		}
		again(t, v, c.AppendCBOR, func(b []byte, v any) error { return c.DecodeCBOR(b, v, nil) })
	})
}

func again(t *testing.T, v thing, encode func([]byte, any) ([]byte, error), decode func([]byte, any) error) {
	t.Helper()
	one, err := encode(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	var w thing
	if err := decode(one, &w); err != nil {
		t.Fatalf("%v: %q", err, one)
	}
	two, err := encode(nil, &w)
	if err != nil || !bytes.Equal(one, two) {
		t.Fatalf("%v: %q became %q", err, one, two)
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("name=a&things.member.1.names.member.2=x&labels.entry.1.key=k&labels.entry.1.value=v&choice.text=t")
	c := testCodec()
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		var v, w thing
		if c.DecodeQuery(values, &v, &Presence{}) != nil {
			return
		}
		if err := c.DecodeQuery(values, &w, nil); err != nil {
			t.Fatal(err)
		}
		a, err := c.AppendXML(nil, &v, "Op", "", "")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := c.AppendXML(nil, &w, "Op", "", "")
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("decoded twice: %s and %s", a, b)
		}
	})
}
