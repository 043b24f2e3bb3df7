package control

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"longshore.dev/longshore/internal/node"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// usual leaves every string to plausible.
func usual(string) string { return "" }

// forgeries are requests that somebody else than the key's owner could make: each
// changes one that is signed well, or signs it otherwise. The codes are those of the
// JSON protocols and of awsQuery.
var forgeries = []struct {
	name        string
	json, query string
	forge       func(a *arena, o target, r *http.Request, body []byte) *http.Request
}{
	{"no signature", "MissingAuthenticationTokenException", "MissingAuthenticationToken", func(a *arena, o target, r *http.Request, body []byte) *http.Request {
		return a.request(o, body)
	}},
	{"an unknown key", "UnrecognizedClientException", "InvalidClientTokenId", func(a *arena, o target, _ *http.Request, body []byte) *http.Request {
		return a.signedAt(o, body, sigv4.Credentials{AccessKeyID: "AKIAUNKNOWN000000000", SecretAccessKey: a.root.SecretAccessKey}, o.scope(), time.Now())
	}},
	{"a wrong secret", "InvalidSignatureException", "SignatureDoesNotMatch", func(a *arena, o target, _ *http.Request, body []byte) *http.Request {
		return a.signedAt(o, body, sigv4.Credentials{AccessKeyID: a.root.AccessKeyID, SecretAccessKey: a.stranger.SecretAccessKey}, o.scope(), time.Now())
	}},
	{"a session token that was not given", "UnrecognizedClientException", "InvalidClientTokenId", func(a *arena, o target, _ *http.Request, body []byte) *http.Request {
		c := a.root
		c.SessionToken = "token"
		return a.signedAt(o, body, c, o.scope(), time.Now())
	}},
	{"a truncated signature", "InvalidSignatureException", "SignatureDoesNotMatch", editAuthorization(func(s string) string { return s[:len(s)-1] })},
	{"half an Authorization header", "IncompleteSignatureException", "IncompleteSignature", editAuthorization(func(s string) string { return s[:strings.Index(s, ", Signature")] })},
	{"nothing signed but the host", "InvalidSignatureException", "SignatureDoesNotMatch", editAuthorization(func(s string) string {
		from, to := strings.Index(s, "SignedHeaders="), strings.Index(s, ", Signature")
		return s[:from] + "SignedHeaders=host" + s[to:]
	})},
	{"another region's", "InvalidSignatureException", "SignatureDoesNotMatch", editAuthorization(func(s string) string { return strings.Replace(s, testRegion, "us-east-1", 1) })},
	{"another service's", "InvalidSignatureException", "SignatureDoesNotMatch", func(a *arena, o target, _ *http.Request, body []byte) *http.Request {
		r := a.signedAt(o, body, a.root, "s3", time.Now())
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/s3/", "/"+o.scope()+"/", 1))
		return r
	}},
	{"another body", "InvalidSignatureException", "SignatureDoesNotMatch", func(a *arena, o target, r *http.Request, body []byte) *http.Request {
		other := a.request(o, append(slices.Clone(body), ' '))
		other.Header = r.Header
		return other
	}},
	{"another path", "InvalidSignatureException", "SignatureDoesNotMatch", func(_ *arena, _ target, r *http.Request, _ []byte) *http.Request {
		r.URL.Path = "/other"
		return r
	}},
	{"another query", "InvalidSignatureException", "SignatureDoesNotMatch", func(_ *arena, _ target, r *http.Request, _ []byte) *http.Request {
		r.URL.RawQuery = "more=1"
		return r
	}},
	{"another host", "InvalidSignatureException", "SignatureDoesNotMatch", func(_ *arena, _ target, r *http.Request, _ []byte) *http.Request {
		r.Host = "elsewhere:4566"
		return r
	}},
	{"replayed a quarter of an hour later", "InvalidSignatureException", "SignatureDoesNotMatch", func(a *arena, o target, _ *http.Request, body []byte) *http.Request {
		return a.signedAt(o, body, a.root, o.scope(), time.Now().Add(-15*time.Minute-2*time.Second))
	}},
	{"signed in the future", "InvalidSignatureException", "SignatureDoesNotMatch", func(a *arena, o target, _ *http.Request, body []byte) *http.Request {
		return a.signedAt(o, body, a.root, o.scope(), time.Now().Add(16*time.Minute))
	}},
}

func (a *arena) signedAt(o target, body []byte, c sigv4.Credentials, service string, at time.Time) *http.Request {
	a.t.Helper()
	r := a.request(o, body)
	if err := sigv4.Sign(r, c, testRegion, service, sigv4.Hash(body), at); err != nil {
		a.t.Fatal(err)
	}
	return r
}

func editAuthorization(edit func(string) string) func(*arena, target, *http.Request, []byte) *http.Request {
	return func(_ *arena, _ target, r *http.Request, _ []byte) *http.Request {
		r.Header.Set("Authorization", edit(r.Header.Get("Authorization")))
		return r
	}
}

// No operation does anything for who cannot sign.
func TestForgedSignaturesOpenNothing(t *testing.T) {
	a := newArena(t)
	for _, o := range a.targets() {
		body := o.body(t, o.with(usual))
		for _, f := range forgeries {
			want := f.json
			if attacked[o.service].target == "" {
				want = f.query
			}
			if got := a.send(f.forge(a, o, a.signedAt(o, body, a.root, o.scope(), time.Now()), body)); got.code != want {
				t.Errorf("%s with %s: %v; want %s", o, f.name, got, want)
			}
		}
	}
	a.calm()
	if _, audit := a.auditLines(); strings.Contains(a.log.String()+audit, a.root.SecretAccessKey) {
		t.Error("a secret is in a log")
	}
}

// As in AWS, a request can be sent again while it is fresh: who can read it has what
// TLS is to keep, and may repeat it, but nothing else.
func TestAFreshRequestCanBeRepeated(t *testing.T) {
	a := newArena(t)
	o := target{service: "sts", name: "GetCallerIdentity"}
	body := o.body(t, nil)
	signed := a.signedAt(o, body, a.root, "sts", time.Now())
	for range 2 {
		r := a.request(o, body)
		r.Header = signed.Header.Clone()
		if got := a.send(r); got.status != http.StatusOK {
			t.Error(got)
		}
	}
}

// Every operation asks whether its caller may: one that nobody has allowed anything
// near is refused everywhere, and so are nodes wherever they have no business.
func TestEveryOperationAsksForPermission(t *testing.T) {
	a := newArena(t)
	nobody := a.user("nobody", may("s3:GetObject"))
	joined, err := node.Join(within(t, time.Minute), joinOptions(t, a.Endpoint(), a.token(TokenOptions{}).Text))
	if err != nil {
		t.Fatal(err)
	}
	agent := sigv4.Credentials{AccessKeyID: joined.AccessKeyID, SecretAccessKey: joined.SecretAccessKey}
	// AWS asks nobody for a permission here.
	free := []string{"sts:GetCallerIdentity", "sts:GetSessionToken"}
	for _, o := range a.targets() {
		in := o.with(usual)
		if got := a.call(o, nobody, in); !strings.HasPrefix(got.code, "AccessDenied") && !slices.Contains(free, o.String()) {
			t.Errorf("%s for a user without permissions: %v", o, got)
		}
		if o.service != "iam" && o.service != "sts" {
			continue // TestAStolenKeyOpensNothingElse
		}
		if got := a.call(o, agent, in); !strings.HasPrefix(got.code, "AccessDenied") && o.name != "GetCallerIdentity" {
			t.Errorf("%s for a node: %v", o, got)
		}
	}
	a.calm()
}
