package sigv4

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var (
	now   = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	creds = Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret", SessionToken: "token"}
)

func post(t testing.TB, target, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Service.Operation")
	return r
}

// check does what a server does.
func check(r *http.Request, body string, at time.Time) error {
	sig, err := Parse(r)
	if err != nil {
		return err
	}
	if err := sig.CheckTime(at); err != nil {
		return err
	}
	if err := sig.CheckScope("eu-west-1", "ecs"); err != nil {
		return err
	}
	return sig.Verify(r, creds.SecretAccessKey, Hash([]byte(body)), Options{})
}

func TestSignThenVerify(t *testing.T) {
	for _, target := range []string{"/", "/ws?cluster=a%2Fb&x=1&x=0&empty", "/v1/tags/arn%3Aaws%3Aecs", "/a//b/../c/"} {
		r := post(t, target, "{}")
		if err := Sign(r, creds, "eu-west-1", "ecs", Hash([]byte("{}")), now); err != nil {
			t.Fatal(err)
		}
		// What a websocket library adds later does no harm.
		r.Header.Set("Upgrade", "websocket")
		if err := check(r, "{}", now); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		refused(t, target+" with another body", check(r, "{ }", now))
		r.Header.Set("X-Amz-Target", "Service.Other")
		refused(t, target+" with another target", check(r, "{}", now))
	}
}

func TestPresignThenVerify(t *testing.T) {
	r := httptest.NewRequest("GET", "http://example.com/?Action=GetCallerIdentity&Version=2011-06-15", nil)
	if err := Presign(r, creds, "eu-west-1", "ecs", EmptyHash, now, 15*time.Minute); err != nil {
		t.Fatal(err)
	}
	r.RequestURI = r.URL.RequestURI()
	for minutes, want := range map[int]Reason{-6: Mismatch, -4: 0, 0: 0, 14: 0, 16: Expired} {
		if got := reason(check(r, "", now.Add(time.Duration(minutes)*time.Minute))); got != want {
			t.Errorf("after %d minutes: reason %d, want %d", minutes, got, want)
		}
	}
	r.RequestURI = strings.Replace(r.RequestURI, "GetCallerIdentity", "AssumeRole", 1)
	refused(t, "another action", check(r, "", now))
}

// The SDK's own signer is the peer that every client of ours uses.
func TestSDKSignerIsVerified(t *testing.T) {
	for _, target := range []string{"/", "/v1/tags/arn%3Aaws%3Aecs%3Aa%2Fb?tagKeys=a%20b&tagKeys=c%2B", "/x%20y"} {
		r := post(t, "http://localhost:4566"+target, "body")
		r.Header.Set("X-Custom", "  a   b ")
		err := v4.NewSigner().SignHTTP(context.Background(),
			aws.Credentials{AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken},
			r, Hash([]byte("body")), "ecs", "eu-west-1", now)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(r, "body", now); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		refused(t, target, check(r, "bodY", now))
	}
}

func reason(err error) Reason {
	var e *Error
	errors.As(err, &e)
	if e == nil {
		return 0
	}
	return e.Reason
}

func TestClockSkew(t *testing.T) {
	r := post(t, "/", "")
	if err := Sign(r, creds, "eu-west-1", "ecs", EmptyHash, now); err != nil {
		t.Fatal(err)
	}
	for seconds, want := range map[int]Reason{-301: Mismatch, -299: 0, 299: 0, 301: Mismatch} {
		err := check(r, "", now.Add(time.Duration(seconds)*time.Second))
		if got := reason(err); got != want {
			t.Errorf("%d s later: %v", seconds, err)
		}
	}
	if err := check(r, "", now.Add(time.Hour)); !strings.HasPrefix(err.Error(), "Signature expired: 20261120T120000Z is now earlier than 20261120T125500Z") {
		t.Errorf("message %q", err)
	}
}

func TestRefusals(t *testing.T) {
	const good = "AWS4-HMAC-SHA256 Credential=AK/20261120/eu-west-1/ecs/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
	tests := []struct {
		name   string
		change func(r *http.Request)
		want   Reason
	}{
		{"no signature", func(r *http.Request) { r.Header.Del("Authorization") }, Missing},
		{"two signatures", func(r *http.Request) { r.Header.Add("Authorization", good) }, Incomplete},
		{"both forms", func(r *http.Request) { r.RequestURI = "/?X-Amz-Signature=00" }, Incomplete},
		{"another algorithm", func(r *http.Request) { r.Header.Set("Authorization", "Basic abc") }, Incomplete},
		{"no signature part", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(good, ", Signature=00", "", 1))
		}, Incomplete},
		{"a part twice", func(r *http.Request) { r.Header.Set("Authorization", good+", Signature=11") }, Incomplete},
		{"short credential", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(good, "/ecs/aws4_request", "", 1))
		}, Incomplete},
		{"another terminator", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(good, "aws4_request", "aws5_request", 1))
		}, Mismatch},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, Incomplete},
		{"two dates", func(r *http.Request) { r.Header.Add("X-Amz-Date", "20261120T120000Z") }, Incomplete},
		{"malformed date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }, Incomplete},
		{"date of another day", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261121T000000Z") }, Mismatch},
		{"host not signed", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(good, "host;", "", 1))
		}, Mismatch},
		{"target not signed", func(r *http.Request) { r.Header.Set("X-Amz-Target", "A.B") }, Mismatch},
		{"signature not hex", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(good, "=00", "=zz", 1))
		}, Mismatch},
		{"expires too far", func(r *http.Request) { presigned(r, "604801") }, Incomplete},
		{"expires negative", func(r *http.Request) { presigned(r, "-1") }, Incomplete},
		{"huge header", func(r *http.Request) { r.Header.Set("Authorization", good+strings.Repeat("x", 20<<10)) }, Incomplete},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Authorization", good)
			r.Header.Set("X-Amz-Date", "20261120T120000Z")
			tt.change(r)
			if err := check(r, "", now); reason(err) != tt.want {
				t.Errorf("got %v (reason %d), want reason %d", err, reason(err), tt.want)
			}
		})
	}
}

func presigned(r *http.Request, expires string) {
	r.Header.Del("Authorization")
	r.RequestURI = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20261120%2Feu-west-1%2Fecs%2Faws4_request" +
		"&X-Amz-Date=20261120T120000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires=" + expires
}

func TestUnsignedPayloadIsForS3Alone(t *testing.T) {
	r := httptest.NewRequest("PUT", "/bucket/a//b", strings.NewReader("anything"))
	r.Header.Set("X-Amz-Content-Sha256", UnsignedPayload)
	if err := Sign(r, creds, "eu-west-1", "s3", UnsignedPayload, now); err != nil {
		t.Fatal(err)
	}
	sig, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Verify(r, creds.SecretAccessKey, Hash([]byte("anything")), Options{S3: true}); err != nil {
		t.Error(err)
	}
	refused(t, "other services", sig.Verify(r, creds.SecretAccessKey, Hash([]byte("anything")), Options{}))
}

func BenchmarkVerify(b *testing.B) {
	r := post(b, "/", "{}")
	if err := Sign(r, creds, "eu-west-1", "ecs", Hash([]byte("{}")), now); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := check(r, "{}", now); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AK/20261120/eu-west-1/ecs/aws4_request, SignedHeaders=host, Signature=00", "20261120T120000Z", "/?a=b%20c")
	f.Fuzz(func(t *testing.T, auth, date, uri string) {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Authorization", auth)
		r.Header.Set("X-Amz-Date", date)
		r.RequestURI = uri
		if sig, err := Parse(r); err == nil {
			if err := sig.Verify(r, "unknown", EmptyHash, Options{}); err == nil {
				t.Fatal("verified without the secret")
			}
		}
	})
}
