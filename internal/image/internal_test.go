package image

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestReferences(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string][2]string{ // name, familiar
		"nginx":                           {"docker.io/library/nginx:latest", "nginx:latest"},
		"nginx:1.25":                      {"docker.io/library/nginx:1.25", "nginx:1.25"},
		"longshore/sample":                {"docker.io/longshore/sample:latest", "longshore/sample:latest"},
		"index.docker.io/library/nginx":   {"docker.io/library/nginx:latest", "nginx:latest"},
		"localhost/x":                     {"localhost/x:latest", "localhost/x:latest"},
		"127.0.0.1:5000/a/b:c":            {"127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"},
		"nginx@" + digest:                 {"docker.io/library/nginx@" + digest, "nginx@" + digest},
		"nginx:1@" + digest:               {"docker.io/library/nginx@" + digest, "nginx@" + digest},
		"public.ecr.aws/docker/x:1":       {"public.ecr.aws/docker/x:1", "public.ecr.aws/docker/x:1"},
		"1.dkr.ecr.eu-west-1.localhost/x": {"1.dkr.ecr.eu-west-1.localhost/x:latest", "1.dkr.ecr.eu-west-1.localhost/x:latest"},
	} {
		name, err := normalize(ref)
		if err != nil || name != want[0] || familiar(name) != want[1] {
			t.Errorf("normalize(%s) = %s, %v (shown as %s), want %v", ref, name, err, familiar(name), want)
		}
	}
}

func TestReferencesNormalizeOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref := rapid.StringMatching(`([a-z0-9.:-]{1,12}/)?[a-z0-9_./-]{1,20}(:[A-Za-z0-9._-]{1,10})?(@sha256:[0-9a-f]{64})?`).Draw(t, "ref")
		name, err := normalize(ref)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("normalize(%q): %v", ref, err)
			}
			return
		}
		for _, same := range []string{name, familiar(name)} {
			if again, err := normalize(same); err != nil || again != name {
				t.Fatalf("normalize(%q) = %q, but normalize(%q) = %q, %v", ref, name, same, again, err)
			}
		}
	})
}

func TestRegistriesElsewhereCannotSendUsHere(t *testing.T) {
	var asked bool
	here := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer here.Close()
	tr := newTransport(Options{Now: time.Now})
	defer tr.close()
	for _, url := range []string{here.URL, strings.Replace(here.URL, "127.0.0.1", "localhost", 1), strings.Replace(here.URL, "http:", "https:", 1)} {
		resp, err := tr.client("registry.example").Get(url)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, errRefused) || asked {
			t.Errorf("a registry elsewhere sent us to %s: %v", url, err)
		}
	}
	resp, err := tr.client("localhost:5000").Get(here.URL)
	if err != nil {
		t.Fatalf("a registry on this machine: %v", err)
	}
	resp.Body.Close()
}

func TestLoopbackNamesAreHeldToTheirWord(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:1": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"192.0.2.1:80": false, "[2001:db8::1]:80": false, "10.0.0.1:80": false,
	} {
		if err := onlyLoopback("tcp", address); (err == nil) != ok {
			t.Errorf("onlyLoopback(%s) = %v", address, err)
		}
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(Options{Now: time.Now, RetryDelay: time.Second})
		no := &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{}}
		waited := func() time.Duration {
			start := time.Now()
			if err := tr.await(t.Context(), "h"); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			tr.heed("h", no)
			if got := waited(); got != want {
				t.Errorf("waited %s, want %s", got, want)
			}
		}
		tr.heed("h", &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"7"}}})
		if got := waited(); got != 7*time.Second {
			t.Errorf("waited %s, want the 7s that were asked for", got)
		}
		tr.heed("h", &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"999999"}}})
		if got := waited(); got != maxPause {
			t.Errorf("waited %s, want no more than %s", got, maxPause)
		}
		tr.heed("h", &http.Response{StatusCode: http.StatusOK})
		tr.heed("other", no)
		if got := waited(); got != 0 {
			t.Errorf("waited %s after a success", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := tr.await(ctx, "other"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a pause outlived its caller: %v", err)
		}
	})
}

func TestKeyedLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyedLock
		unlock, err := k.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if other, err := k.lock(t.Context(), "b"); err != nil {
			t.Fatal("another key waited")
		} else {
			other()
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := k.lock(ctx, "a")
			gaveUp <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("the wait ended with %v", err)
		}
		unlock()
		if again, err := k.lock(t.Context(), "a"); err != nil {
			t.Fatal(err)
		} else {
			again()
		}
		if len(k.locks) > 0 {
			t.Errorf("%d unused locks are kept", len(k.locks))
		}
	})
}
