package sigv4

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// suiteCase is one published case: a request, and what signing it yields in both forms.
type suiteCase struct {
	Context struct {
		Credentials struct {
			AccessKeyID     string `json:"access_key_id"`
			SecretAccessKey string `json:"secret_access_key"`
			Token           string `json:"token"`
		} `json:"credentials"`
		ExpirationSeconds int       `json:"expiration_in_seconds"`
		Normalize         bool      `json:"normalize"`
		Timestamp         time.Time `json:"timestamp"`
	} `json:"context"`
	Request         string `json:"request"`
	HeaderCanonical string `json:"header-canonical-request"`
	HeaderSigned    string `json:"header-signed-request"`
	HeaderSignature string `json:"header-signature"`
	QueryCanonical  string `json:"query-canonical-request"`
	QuerySigned     string `json:"query-signed-request"`
	QuerySignature  string `json:"query-signature"`
}

func suite(t *testing.T) map[string]suiteCase {
	t.Helper()
	b, err := os.ReadFile("testdata/suite/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]suiteCase
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != 38 {
		t.Fatalf("%d cases, want 38", len(cases))
	}
	return cases
}

// readRequest parses a case's request, which net/http would refuse: its targets
// hold raw spaces and non-ASCII.
func readRequest(t *testing.T, text string) (r *http.Request, body string) {
	t.Helper()
	head, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
	lines := bufio.NewScanner(strings.NewReader(head))
	lines.Buffer(nil, 1<<20)
	lines.Scan()
	method, rest, _ := strings.Cut(lines.Text(), " ")
	target := rest[:strings.LastIndex(rest, " ")]
	r = &http.Request{Method: method, RequestURI: target, URL: &url.URL{}, Header: http.Header{}, ContentLength: int64(len(body))}
	last := ""
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, " ") {
			values := r.Header[last]
			values[len(values)-1] += " " + line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "host") {
			r.Host = value
			continue
		}
		last = http.CanonicalHeaderKey(name)
		r.Header[last] = append(r.Header[last], value)
	}
	return r, body
}

func TestSuiteIsVerified(t *testing.T) {
	for name, c := range suite(t) {
		for form, text := range map[string]string{"header": c.HeaderSigned, "query": c.QuerySigned} {
			t.Run(name+"/"+form, func(t *testing.T) {
				r, body := readRequest(t, text)
				sig, err := Parse(r)
				if err != nil {
					t.Fatal(err)
				}
				if sig.AccessKeyID != c.Context.Credentials.AccessKeyID || sig.Region != "us-east-1" || sig.Service != "service" {
					t.Errorf("parsed %+v", sig)
				}
				if sig.SessionToken != c.Context.Credentials.Token {
					t.Errorf("session token %q", sig.SessionToken)
				}
				if err := sig.CheckTime(c.Context.Timestamp.Add(time.Minute)); err != nil {
					t.Error(err)
				}
				opts := Options{S3: !c.Context.Normalize}
				hash := Hash([]byte(body))
				if opts.S3 && sig.Presigned {
					// The suite signs the body's hash in this form, S3's clients do not.
					if ok, err := sig.matches(r, c.Context.Credentials.SecretAccessKey, hash, true, "X-Amz-Signature"); !ok || err != nil {
						t.Error("not verified", err)
					}
					return
				}
				if err := sig.Verify(r, c.Context.Credentials.SecretAccessKey, hash, opts); err != nil {
					t.Error(err)
				}
				refused(t, "another secret", sig.Verify(r, "x", hash, opts))
				refused(t, "another body", sig.Verify(r, c.Context.Credentials.SecretAccessKey, Hash([]byte(body+"x")), opts))
				r.Method = "PUT"
				refused(t, "another method", sig.Verify(r, c.Context.Credentials.SecretAccessKey, hash, opts))
			})
		}
	}
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != Mismatch {
		t.Errorf("%s: got %v, want a mismatch", what, err)
	}
}

func TestSuiteCanonicalRequests(t *testing.T) {
	for name, c := range suite(t) {
		t.Run(name, func(t *testing.T) {
			r, body := readRequest(t, c.HeaderSigned)
			sig, err := Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := canonicalRequest(r, sig.signedHeaders, Hash([]byte(body)), !c.Context.Normalize)
			if err != nil || got != c.HeaderCanonical {
				t.Errorf("header form: %v\n%s\nwant\n%s", err, got, c.HeaderCanonical)
			}
			if sig.signature != c.HeaderSignature {
				t.Errorf("parsed signature %s", sig.signature)
			}
			q, body := readRequest(t, c.QuerySigned)
			if sig, err = Parse(q); err != nil {
				t.Fatal(err)
			}
			skip := []string{"X-Amz-Signature"}
			if !strings.Contains(c.QueryCanonical, "X-Amz-Security-Token") {
				skip = append(skip, "X-Amz-Security-Token")
			}
			got, err = canonicalRequest(q, sig.signedHeaders, Hash([]byte(body)), !c.Context.Normalize, skip...)
			if err != nil || got != c.QueryCanonical {
				t.Errorf("query form: %v\n%s\nwant\n%s", err, got, c.QueryCanonical)
			}
		})
	}
}
