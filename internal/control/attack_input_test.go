package control

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// No string in any member of any operation makes the server fail, write a file where
// none belongs, or forge a line of its logs.
func TestHostileStrings(t *testing.T) {
	a := newArena(t)
	a.furnish(a.root, testAccount, "plausible")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	hostile := []string{
		strings.Repeat("../", 16) + outside + "/escaped", outside + "/escaped", "..", ".", "/", `..\..\escaped`, "%2e%2e%2f%2e%2e%2fescaped",
		"arn:aws:ecs:" + testRegion + ":" + testAccount + ":cluster/../../escaped", "arn::::::", "arn:aws:iam::" + testAccount + ":role/" + strings.Repeat("a/", 400),
		"a\x00b", "a\nlevel=ERROR msg=forged\r\n\r\nHTTP/1.1 200 OK", invalid, "\u202e\u2028\ufeff\U0010ffff", "%s%d%n%!v(", `"}],"x":[{<!--]]>&<x/>`,
		"${aws:username}", "*", "?", "-1", "99999999999999999999", "null", " ", strings.Repeat("é", 10<<10), "{}", `{"Version":"2012-10-17","Statement":[]}`,
	}
	send := func(o target, in map[string]any, what string) {
		began := time.Now()
		got := a.call(o, a.root, in)
		if took := time.Since(began); got.status >= 500 || got.status != http.StatusOK && got.code == "" || took > 10*time.Second {
			t.Errorf("%s with %s: %v, after %s", o, what, got, took)
		}
		if len(got.message) > 64<<10 {
			t.Errorf("%s with %s answers with %d bytes", o, what, len(got.message))
		}
	}
	n := 0
	for i, o := range a.targets() {
		for j := i % 3; j < len(hostile); j += 3 {
			text := hostile[j]
			send(o, o.everything(func(string) string { return text }), fmt.Sprintf("%.40q everywhere", text))
		}
		for _, leaf := range o.leaves() {
			for range 2 { // each in turn
				n += 7
				text := hostile[n%len(hostile)]
				send(o, o.with(func(path string) string {
					if path == leaf {
						return text
					}
					return ""
				}), fmt.Sprintf("%.40q in %s", text, leaf))
			}
		}
	}
	// Names of log groups and streams may have dots and slashes.
	type in = map[string]any
	for _, name := range []string{"..", "../..", strings.Repeat("../", 16) + strings.TrimPrefix(outside, "/") + "/escaped"} {
		for _, step := range []struct {
			name string
			in   in
		}{
			{"CreateLogGroup", in{"logGroupName": name}}, {"CreateLogStream", in{"logGroupName": name, "logStreamName": name}},
			{"PutLogEvents", in{"logGroupName": name, "logStreamName": name, "logEvents": []any{in{"timestamp": a.now().UnixMilli(), "message": "m"}}}},
			{"DeleteLogGroup", in{"logGroupName": name}},
		} {
			if got := a.call(target{service: "logs", name: step.name}, a.root, step.in); got.status != http.StatusOK {
				t.Errorf("%s of %q: %v", step.name, name, got)
			}
		}
	}
	a.calm()
	a.auditLines() // each is one
	for line := range strings.Lines(a.log.String()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line of the log is not the server's: %q", line)
		}
	}
	for _, dir := range []string{outside, filepath.Dir(a.data)} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), "escaped") {
				t.Errorf("%s is outside of the data directory", filepath.Join(dir, e.Name()))
			}
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("files outside of the data directory: %v %v", left, err)
	}
}

// hostileBodies are documents that are to be refused, or to do nothing, quickly and in
// little memory, in each protocol.
func hostileBodies() map[string]map[string][]byte {
	deep := func(open, end string) string { return strings.Repeat(open, 200_000) + strings.Repeat(end, 200_000) }
	many := func(n int, one func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(one(i))
		}
		return b.String()
	}
	cbor := func(head string, n int) []byte { return []byte(strings.Repeat(head, n)) }
	return map[string]map[string][]byte{
		"json": {
			"deep maps":             []byte(`{"tags":` + deep(`{"a":`, "}") + `}`),
			"deep lists":            []byte(`{"tags":` + deep("[", "]") + `}`),
			"unclosed lists":        []byte(`{"tags":` + strings.Repeat("[", 1<<20)),
			"many members":          []byte("{" + many(300_000, func(i int) string { return fmt.Sprintf(`"m%d":1,`, i) }) + `"x":1}`),
			"one member many times": []byte("{" + many(300_000, func(int) string { return `"clusterName":"a",` }) + `"clusterName":"b"}`),
			"a long number":         []byte(`{"tags":[{"key":` + strings.Repeat("9", 1<<20) + `}]}`),
			"entities":              []byte(`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>`),
		},
		"query": {
			"deep members": []byte("Action=ListUsers&Version=2010-05-08&" + strings.Repeat("Tags.member.1.", 100_000) + "Key=1"),
			"a far index":  []byte("Action=CreateUser&Version=2010-05-08&UserName=u&Tags.member.2000000000.Key=a"),
			"many indexes": []byte("Action=CreateUser&Version=2010-05-08&UserName=u" + many(100_000, func(i int) string { return fmt.Sprintf("&Tags.member.%d.Key=a", i) })),
			"many members": []byte("Action=ListUsers&Version=2010-05-08" + many(300_000, func(i int) string { return fmt.Sprintf("&m%d=1", i) })),
			"two actions":  []byte("Action=ListUsers&Action=DeleteAccountAlias&Version=2010-05-08"),
			"entities":     []byte(`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>`),
			"a deep policy": []byte("Action=CreatePolicy&Version=2010-05-08&PolicyName=p&PolicyDocument=" +
				strings.Repeat("[", 100_000)),
			"a policy of many statements": []byte("Action=CreatePolicy&Version=2010-05-08&PolicyName=p&PolicyDocument=" +
				`{"Version":"2012-10-17","Statement":[` + many(20_000, func(int) string { return may("*") + "," }) + may("*") + "]}"),
		},
		"cbor": {
			"deep lists":     cbor("\x81", 1<<20),
			"deep maps":      append([]byte("\xa1\x64tags"), cbor("\xa1\x61a", 1<<20)...),
			"deep tags":      cbor("\xc6", 1<<20),
			"endless lists":  cbor("\x9f", 1<<20),
			"a list of 2^63": []byte("\xa1\x64tags\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"),
			"a text of 2^40": []byte("\xa1\x6bclusterName\x7b\x00\x00\x01\x00\x00\x00\x00\x00"),
			"a map of 2^32":  []byte("\xbb\x00\x00\x00\x01\x00\x00\x00\x00"),
		},
	}
}

// harmless are those that AWS does not refuse either: of what is given twice one holds, and
// members that an operation does not have are not looked at.
var harmless = []string{"one member many times", "many members", "deep members", "two actions"}

// Documents that are made to cost are refused at once, and hold no memory.
func TestHostileDocuments(t *testing.T) {
	a := newArena(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for protocol, bodies := range hostileBodies() {
		for name, body := range bodies {
			o := target{service: "ecs", name: "CreateCluster"}
			if protocol == "query" {
				o = target{service: "iam"}
			}
			r := a.request(o, body)
			if protocol == "cbor" {
				r.Header.Del("X-Amz-Target")
				r.Header.Set("Content-Type", "application/cbor")
				r.Header.Set("Smithy-Protocol", "rpc-v2-cbor")
				r.URL.Path = "/service/AmazonEC2ContainerServiceV20141113/operation/CreateCluster"
			}
			a.sign(r, a.root, o.scope(), body)
			began := time.Now()
			got := a.send(r)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s of %s took %s", name, protocol, took)
			}
			if got.status >= 500 || got.status == http.StatusOK && !slices.Contains(harmless, name) {
				t.Errorf("%s of %s: %v", name, protocol, got)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("%d MiB are held afterwards", grown>>20)
	}
	a.calm()
}

// A body without a length is bounded like any other, whoever sends it.
func TestEndlessBodies(t *testing.T) {
	a := newArena(t)
	o := target{service: "ecs", name: "ListClusters"}
	for who, c := range map[string]sigv4.Credentials{"root": a.root, "nobody": {AccessKeyID: "AKIANOBODY0000000000", SecretAccessKey: "x"}} {
		r := a.request(o, nil)
		a.sign(r, c, "ecs", nil)
		endless := &zeros{}
		endless.left.Store(1 << 30)
		r.Body, r.ContentLength = io.NopCloser(endless), -1
		response, err := a.client.Do(r)
		if err == nil {
			raw, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				t.Errorf("%s: %s", who, raw)
			}
		}
		if sent := 1<<30 - endless.left.Load(); sent > 128<<20 {
			t.Errorf("the server took %d MiB of %s", sent>>20, who)
		}
	}
	a.calm()
}

// zeros is a long body.
type zeros struct{ left atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left.Add(-int64(len(p))) <= 0 {
		return 0, io.EOF
	}
	return len(p), nil
}
