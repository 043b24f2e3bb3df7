package test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	ecsTarget  = "AmazonEC2ContainerServiceV20141113."
	logsTarget = "Logs_20140328."
)

// rawCall is one request as no SDK would send it.
type rawCall struct {
	key, secret, service, region string
	at                           time.Time
	target                       string
	header                       map[string]string // signed
	body                         []byte
	// after changes the request once it is signed.
	after func(*http.Request)
}

// rawAnswer is what came back.
type rawAnswer struct {
	status  int
	code    string
	message string
	body    string
	header  http.Header
}

func (l *longshore) raw(c rawCall) rawAnswer {
	l.t.Helper()
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.key, keyID)
	set(&c.secret, secret)
	set(&c.service, "ecs")
	set(&c.region, region)
	if c.at.IsZero() {
		c.at = time.Now()
	}
	r, err := http.NewRequest(http.MethodPost, l.endpoint+"/", bytes.NewReader(c.body))
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if c.target != "" {
		r.Header.Set("X-Amz-Target", c.target)
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	sum := sha256.Sum256(c.body)
	creds := aws.Credentials{AccessKeyID: c.key, SecretAccessKey: c.secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hex.EncodeToString(sum[:]), c.service, c.region, c.at.UTC()); err != nil {
		l.t.Fatal(err)
	}
	if c.after != nil {
		c.after(r)
	}
	return l.send(r)
}

func (l *longshore) send(r *http.Request) rawAnswer {
	l.t.Helper()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		l.t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatalf("no whole answer: %v", err)
	}
	a := rawAnswer{status: response.StatusCode, body: string(body), header: response.Header}
	var fault struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &fault) == nil {
		a.code, a.message = fault.Type[strings.LastIndexByte(fault.Type, '#')+1:], fault.Message
	} else if _, rest, ok := strings.Cut(a.body, "<Code>"); ok {
		a.code, _, _ = strings.Cut(rest, "<")
	}
	return a
}

func gzipped(n int) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(bytes.Repeat([]byte(" "), n))
	_ = w.Close()
	return buf.Bytes()
}

// TestHostileRequests sends what no client of AWS's would. Every answer must be
// AWS's kind of error, and the server must go on as if nothing had been.
func TestHostileRequests(t *testing.T) {
	l := up(t, "--no-sample")
	t.Run("signatures", func(t *testing.T) { l.within(t).hostileSignatures() })
	t.Run("documents", func(t *testing.T) { l.within(t).hostileDocuments() })
	t.Run("parameters", func(t *testing.T) { l.within(t).hostileParameters() })
	t.Run("presigned", func(t *testing.T) { l.within(t).presigned() })
	t.Run("connections", func(t *testing.T) { l.within(t).hostileConnections() })

	if a := l.raw(rawCall{target: ecsTarget + "ListClusters", body: []byte("{}")}); a.status != http.StatusOK || !strings.Contains(a.body, ":cluster/default\"") {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
	if out := l.output.String(); strings.Contains(out, "panic") || strings.Contains(out, "level=ERROR") {
		t.Errorf("the server's log shows a failure:\n%s", out)
	}
	if strings.Contains(l.output.String(), secret) {
		t.Error("the server's log holds the root user's secret")
	}
	l.notOnDisk(t, secret)
}

// notOnDisk checks that no file of the data directory holds text.
func (l *longshore) notOnDisk(t *testing.T, text string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(l.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		if bytes.Contains(raw, []byte(text)) {
			t.Errorf("%s holds the secret in the clear", path)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("the data directory could not be searched: %d files, %v", files, err)
	}
}

// refused is a call and how it is to be refused.
type refused struct {
	name   string
	call   rawCall
	status int
	code   string
}

func (l *longshore) refuse(cases []refused) {
	for _, c := range cases {
		l.t.Run(c.name, func(t *testing.T) {
			a := l.within(t).raw(c.call)
			if a.status != c.status || a.code != c.code {
				t.Errorf("answered %d %s: %.300s\nwant %d %s", a.status, a.code, a.body, c.status, c.code)
			}
			if a.header.Get("X-Amzn-Requestid") == "" {
				t.Error("the answer has no request id")
			}
			if len(a.message) > 2000 {
				t.Errorf("the message repeats %d bytes", len(a.message))
			}
		})
	}
}

func (l *longshore) hostileSignatures() {
	list := func(change func(*rawCall)) rawCall {
		c := rawCall{target: ecsTarget + "ListClusters", body: []byte("{}")}
		change(&c)
		return c
	}
	after := func(change func(*http.Request)) rawCall { return list(func(c *rawCall) { c.after = change }) }
	authorization := func(value string) rawCall {
		return after(func(r *http.Request) { r.Header.Set("Authorization", value) })
	}
	const bad, incomplete, unknown = "InvalidSignatureException", "IncompleteSignatureException", "UnknownOperationException"
	l.refuse([]refused{
		{"unknown key", list(func(c *rawCall) { c.key = "AKIANOBODY0000000000" }), 400, "UnrecognizedClientException"},
		{"wrong secret", list(func(c *rawCall) { c.secret = "x" }), 400, bad},
		{"ten minutes old", list(func(c *rawCall) { c.at = time.Now().Add(-10 * time.Minute) }), 400, bad},
		{"ten minutes early", list(func(c *rawCall) { c.at = time.Now().Add(10 * time.Minute) }), 400, bad},
		{"other service", list(func(c *rawCall) { c.service = "logs" }), 400, bad},
		{"no region", list(func(c *rawCall) { c.region = "moon" }), 400, bad},
		{"region is a path", list(func(c *rawCall) { c.region = "../../etc" }), 400, bad},
		{"session token of nobody", list(func(c *rawCall) { c.header = map[string]string{"X-Amz-Security-Token": "x"} }), 400, "UnrecognizedClientException"},
		{"other body", after(func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("[]")) }), 400, bad},
		{"other target", after(func(r *http.Request) { r.Header.Set("X-Amz-Target", ecsTarget+"DeleteCluster") }), 400, bad},
		{"other path", after(func(r *http.Request) { r.URL.Path = "/x" }), 400, bad},
		{"added query", after(func(r *http.Request) { r.URL.RawQuery = "a=b" }), 400, bad},
		{"unsigned target", rawCall{body: []byte("{}"), after: func(r *http.Request) { r.Header.Set("X-Amz-Target", ecsTarget+"ListClusters") }}, 400, bad},
		{"unsigned", after(func(r *http.Request) { r.Header.Del("Authorization") }), 400, "MissingAuthenticationTokenException"},
		{"basic", authorization("Basic YTpi"), 400, incomplete},
		{"garbled", authorization("AWS4-HMAC-SHA256 Credential=,,,;="), 400, incomplete},
		{"huge", authorization("AWS4-HMAC-SHA256 " + strings.Repeat("x", 40<<10)), 400, incomplete},
		{"two", after(func(r *http.Request) { r.Header.Add("Authorization", "AWS4-HMAC-SHA256 x") }), 400, incomplete},
		{"service that is not served", rawCall{service: "dynamodb", target: "DynamoDB_20120810.ListTables", body: []byte("{}")}, 400, unknown},
		{"operation of nobody", rawCall{target: ecsTarget + "Frobnicate", body: []byte("{}")}, 400, unknown},
		{"operation not served yet", rawCall{target: ecsTarget + "CreateTaskSet", body: []byte("{}")}, 400, unknown},
		{"no operation", rawCall{body: []byte("{}")}, 400, unknown},
		{"target without a dot", rawCall{target: "ListClusters", body: []byte("{}")}, 400, unknown},
		{"query action not served yet", rawCall{service: "sts", header: form, body: []byte("Action=DecodeAuthorizationMessage&Version=2011-06-15")}, 400, "InvalidAction"},
		{"query of an unknown key", rawCall{key: "AKIANOBODY", service: "sts", header: form, body: []byte("Action=GetCallerIdentity&Version=2011-06-15")}, 403, "InvalidClientTokenId"},
		{"malformed query", rawCall{service: "sts", header: form, body: []byte("%zz=1")}, 404, "MalformedQueryString"},
	})
	if a := l.raw(after(func(r *http.Request) { r.Header.Set("X-Unsigned", "x") })); a.status != http.StatusOK {
		l.t.Errorf("a header of a proxy's, added unsigned, is refused: %s", a.body)
	}
}

var form = map[string]string{"Content-Type": "application/x-www-form-urlencoded"}

func (l *longshore) hostileDocuments() {
	op := func(name, body string) rawCall { return rawCall{target: ecsTarget + name, body: []byte(body)} }
	encoded := func(encoding string, body []byte) rawCall {
		return rawCall{target: ecsTarget + "ListClusters", header: map[string]string{"Content-Encoding": encoding}, body: body}
	}
	const malformed = "SerializationException"
	l.refuse([]refused{
		{"list", op("ListClusters", `[]`), 400, malformed},
		{"two documents", op("ListClusters", `{} {}`), 400, malformed},
		{"cut short", op("ListClusters", `{"nextToken":"`), 400, malformed},
		{"deep maps", op("ListClusters", strings.Repeat(`{"a":`, 100000)+"1"+strings.Repeat("}", 100000)), 400, malformed},
		{"deep lists", op("ListClusters", `{"x":`+strings.Repeat("[", 100000)+strings.Repeat("]", 100000)+`}`), 400, malformed},
		{"text for a number", op("ListClusters", `{"maxResults":"x"}`), 400, malformed},
		{"boolean for a text", op("CreateCluster", `{"clusterName":true}`), 400, malformed},
		{"map for a list", op("CreateCluster", `{"tags":{"a":"b"}}`), 400, malformed},
		{"text for a structure", op("CreateCluster", `{"tags":["a"]}`), 400, malformed},
		{"infinite number", op("ListClusters", `{"maxResults":1e400}`), 400, malformed},
		{"number of 65 bits", op("ListClusters", `{"maxResults":99999999999999999999}`), 400, malformed},
		{"number of 33 bits", op("ListClusters", `{"maxResults":4294967297}`), 400, malformed},
		{"fraction", op("ListClusters", `{"maxResults":1.5}`), 400, malformed},
		{"broken UTF-8", op("CreateCluster", "{\"clusterName\":\"\xff\xfe\"}"), 400, malformed},
		{"gzip bomb", encoded("gzip", gzipped(64<<20)), 413, "RequestEntityTooLarge"},
		{"not gzip", encoded("gzip", []byte("{}")), 400, malformed},
		{"unknown encoding", encoded("br", []byte("{}")), 415, "UnsupportedMediaType"},
		{"nine MiB", op("ListClusters", `{"nextToken":"`+strings.Repeat("x", 9<<20)+`"}`), 413, "RequestEntityTooLarge"},
	})
}
