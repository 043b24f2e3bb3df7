package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"longshore.dev/longshore/internal/edge/balance"
)

// mirror answers with what it was asked.
func mirror(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
	r.Header.Write(w)
	fmt.Fprintln(w)
	io.Copy(w, r.Body)
}

func TestTheTargetSeesTheClientsRequest(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, mirror)))
	res, err := s.send(newClient(t), "PUT", "/a%2Fb//c/../d?x=1&y=%20;z", strings.NewReader("the body"),
		"Host", "shop.example.com:1234", "X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "https", "X-Mine", "1",
		"Connection", "X-Forwarded-For, X-Drop", "X-Drop", "2", "Keep-Alive", "3", "X-Amzn-Trace-Id", "Root=1-67891233-abcdef012345678912345678;CalledFrom=app")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`^PUT /a%2Fb//c/../d\?x=1&y=%20;z shop.example.com:1234\n`,
		`\nX-Forwarded-For: 127.0.0.1\r\n`, `\nX-Forwarded-Proto: http\r\n`,
		`\nX-Forwarded-Port: ` + s.url("l")[len("http://127.0.0.1:"):] + `\r\n`,
		`\nX-Amzn-Trace-Id: Self=1-[0-9a-f]{8}-[0-9a-f]{24};Root=1-67891233-abcdef012345678912345678;CalledFrom=app\r\n`,
		`\nX-Mine: 1\r\n`, `\n\nthe body$`,
	} {
		if !regexp.MustCompile(want).MatchString(res.text) {
			t.Errorf("not there: %s", want)
		}
	}
	for _, not := range []string{"X-Drop", "Keep-Alive"} {
		if strings.Contains(res.text, not) {
			t.Errorf("%s went through", not)
		}
	}
	if t.Failed() {
		t.Log(res.text)
	}
}

func TestForwardedHeadersFollowTheAttributes(t *testing.T) {
	s := start(t, Options{})
	target := backend(t, mirror)
	for want, change := range map[string]func(*balance.LoadBalancer){
		`X-Forwarded-For: 1\.1\.1\.1, 127\.0\.0\.1\r`:      func(*balance.LoadBalancer) {},
		`X-Forwarded-For: 1\.1\.1\.1, 127\.0\.0\.1:\d+\r`:  func(lb *balance.LoadBalancer) { lb.ForwardedPort = true },
		`X-Forwarded-For: 1\.1\.1\.1\r`:                    func(lb *balance.LoadBalancer) { lb.ForwardedMode = balance.Preserve },
		`X-Amzn-Trace-Id: Root=1-[0-9a-f]{8}-[0-9a-f]{24}`: func(lb *balance.LoadBalancer) { lb.ForwardedMode = balance.Remove },
		`shop.example.com\n`:                               func(lb *balance.LoadBalancer) { lb.PreserveHost = true },
		`shop.example.com:\d+\n`:                           func(lb *balance.LoadBalancer) { lb.PreserveHost = false },
		`X-Plain: 2`:                                       func(lb *balance.LoadBalancer) { lb.DropInvalidHeaders = true },
	} {
		table := simple(target)
		lb := &table.LoadBalancers[0]
		change(lb)
		s.healthy(table)
		text := s.get("/", "Host", "shop.example.com", "X-Forwarded-For", "1.1.1.1", "X_Odd", "1", "X-Plain", "2").text
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("not there: %s\n%s", want, text)
		}
		if got, want := strings.Contains(text, "X-Forwarded-For"), lb.ForwardedMode != balance.Remove; got != want {
			t.Errorf("X-Forwarded-For in mode %q: %v", lb.ForwardedMode, got)
		}
		if got, want := strings.Contains(text, "X_odd"), !lb.DropInvalidHeaders; got != want {
			t.Errorf("an invalid header with dropping %v: %v", lb.DropInvalidHeaders, got)
		}
	}
}

func TestRulesActions(t *testing.T) {
	s := start(t, Options{})
	table := simple(backend(t, named("web")))
	table.TargetGroups = append(table.TargetGroups, balance.TargetGroup{ID: "api", Protocol: balance.HTTP, Targets: []balance.Target{backend(t, named("api"))}})
	table.LoadBalancers[0].Listeners[0].Rules = []balance.Rule{
		{ID: "1", Priority: 1, Conditions: []balance.Condition{{Field: balance.PathPattern, Values: []string{"/api/*"}}}, Actions: forwardTo("api")},
		{ID: "2", Priority: 2, Conditions: []balance.Condition{{Field: balance.HostHeader, Values: []string{"old.example.com"}}}, Actions: []balance.Action{
			{Type: balance.RedirectAction, Redirect: &balance.Redirect{Protocol: "HTTPS", Port: "443", Host: "new.example.com", StatusCode: 301}}}},
		{ID: "3", Priority: 3, Conditions: []balance.Condition{{Field: balance.SourceIP, Values: []string{"127.0.0.0/8"}}, {Field: balance.PathPattern, Values: []string{"/no"}}}, Actions: []balance.Action{
			{Type: balance.FixedResponseAction, FixedResponse: &balance.FixedResponse{StatusCode: 403, ContentType: "application/json", Body: `{"no":1}`}}}},
	}
	s.healthy(table)
	if got := s.get("/").text + s.get("/api/x").text; got != "webapi" {
		t.Errorf("forwarded to %s", got)
	}
	if res := s.get("/a?b=c", "Host", "Old.Example.com"); res.StatusCode != 301 || res.Header.Get("Location") != "https://new.example.com:443/a?b=c" {
		t.Errorf("%d to %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res := s.get("/no"); res.StatusCode != 403 || res.text != `{"no":1}` || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s %s", res.StatusCode, res.Header.Get("Content-Type"), res.text)
	}
	c := s.Counters()
	lb := c.LoadBalancers["lb"]
	if lb.RequestCount != 2 || lb.RedirectCount != 1 || lb.FixedResponseCount != 1 || lb.Target.Code2XX != 2 || lb.ELB.Code3XX != 1 || lb.ELB.Code4XX != 1 {
		t.Errorf("%+v", lb)
	}
	if g := c.TargetGroups["api"]; g.RequestCount != 1 || g.Target.Code2XX != 1 || g.TargetResponseTime.Count != 1 || g.HealthyHostCount != 1 || g.UnHealthyHostCount != 0 {
		t.Errorf("%+v", g)
	}
}

func TestErrorsOfTheLoadBalancersOwn(t *testing.T) {
	s := start(t, Options{})
	hangUp := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != "ELB-HealthChecker/2.0" {
			panic(http.ErrAbortHandler)
		}
	})
	wide := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Wide", strings.Repeat("x", maxAnswerHeaders+1))
	})
	for name, c := range map[string]struct {
		targets []balance.Target
		want    int
	}{
		"no targets":         {nil, 503},
		"nobody listens":     {[]balance.Target{refusing(t)}, 502},
		"it hangs up":        {[]balance.Target{hangUp}, 502},
		"headers are wide":   {[]balance.Target{wide}, 502},
		"all targets drain":  {[]balance.Target{{ID: "a", IP: "127.0.0.1", Port: 1, Draining: true}}, 503},
		"not one that hangs": {[]balance.Target{hangUp, backend(t, named("ok"))}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			s.healthy(simple(c.targets...))
			for range 4 {
				if res := s.get("/"); res.StatusCode != c.want {
					t.Errorf("%d, want %d", res.StatusCode, c.want)
				}
			}
		})
	}
	lb := s.Counters().LoadBalancers["lb"]
	if lb.ELB503 != 8 || lb.ELB502 != 12 || lb.ELB.Code5XX != 20 || lb.TargetConnectionErrorCount != 4 {
		t.Errorf("%+v", lb)
	}
}

// A request may go to another target when the first did not get it, and not otherwise.
func TestRetries(t *testing.T) {
	s := start(t, Options{})
	var broken, well atomic.Int64
	table := simple(refusing(t), backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") == "ELB-HealthChecker/2.0" {
			return
		}
		broken.Add(1)
		io.ReadAll(r.Body)
		panic(http.ErrAbortHandler)
	}), backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != "ELB-HealthChecker/2.0" {
			well.Add(1)
		}
		io.Copy(w, r.Body)
	}))
	// All are tried, as none is healthy: the checks go where nobody listens.
	table.TargetGroups[0].HealthCheck = balance.HealthCheck{Port: refusing(t).Port, UnhealthyThreshold: 2}
	s.apply(table)
	for range 9 {
		if res := s.get("/"); res.StatusCode != 200 {
			t.Errorf("a GET got %d", res.StatusCode)
		}
	}
	broken.Store(0)
	well.Store(0)
	for range 9 {
		res, err := s.send(newClient(t), "POST", "/", strings.NewReader("once"))
		if err != nil || res.StatusCode == 200 && res.text != "once" {
			t.Errorf("%v, %q", err, res.text)
		}
	}
	if n := broken.Load() + well.Load(); n != 9 || broken.Load() == 0 || well.Load() == 0 {
		t.Errorf("9 POSTs arrived %d times, %d of them where they fail", n, broken.Load())
	}
}

func TestBodiesAndTrailersStreamBothWays(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		control.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "echo %s\n", lines.Text())
			control.Flush()
		}
		w.Header().Set("X-Sum", "got "+r.Trailer.Get("X-End"))
	})))
	in, out := io.Pipe()
	q, _ := http.NewRequest("POST", s.url("l"), in)
	q.Trailer = http.Header{"X-End": nil}
	// The response begins before anything was sent.
	res, err := newClient(t).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answers := bufio.NewReader(res.Body)
	for i := range 5 {
		fmt.Fprintf(out, "%d\n", i)
		if line, err := answers.ReadString('\n'); err != nil || line != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
	}
	q.Trailer.Set("X-End", "the end")
	out.Close()
	if rest, err := io.ReadAll(answers); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
	if got := res.Trailer.Get("X-Sum"); got != "got the end" {
		t.Errorf("trailer %q", got)
	}
}

// What a client has of a response that broke off must not look like all of it.
func TestBrokenResponsesBreak(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})))
	if res, err := s.send(newClient(t), "GET", "/half", nil); err == nil {
		t.Errorf("got %q, and no error", res.text)
	}
}

func TestUnknownTypesAreNotGuessed(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	})))
	if kind, ok := s.get("/").Header["Content-Type"]; ok {
		t.Errorf("guessed %q", kind)
	}
}

// What has no body keeps its headers.
func TestHeadersWithoutBodies(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", "e")
		switch {
		case r.URL.Path == "/304":
			w.WriteHeader(304)
		case r.URL.Path == "/204":
			w.WriteHeader(204)
		case r.Method == "HEAD":
			w.Header().Set("Content-Length", "1234")
		}
	})))
	for path, want := range map[string]string{"/304": "304 ", "/204": "204 ", "/": "200 1234"} {
		method := "GET"
		if path == "/" {
			method = "HEAD"
		}
		res, err := s.send(newClient(t), method, path, nil)
		if err != nil || fmt.Sprint(res.StatusCode, " ", res.Header.Get("Content-Length")) != want || res.Header.Get("Etag") != "e" {
			t.Errorf("%s %s: %v %v", method, path, res.Response, err)
		}
	}
}

func TestConnectionsToTargetsAreKept(t *testing.T) {
	s := start(t, Options{})
	var mu sync.Mutex
	from := map[string]bool{}
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			mu.Lock()
			defer mu.Unlock()
			from[r.RemoteAddr] = true
		}
	})))
	for range 20 {
		s.get("/x")
	}
	if len(from) != 1 {
		t.Errorf("20 requests, one after another, came over %d connections", len(from))
	}
}

// raw sends bytes, reads as many responses, or all that come before the connection is
// closed, and returns the first one's status.
func (r *rig) raw(text string, responses int) (status string) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr("l").String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
	reader := bufio.NewReader(c)
	for range responses {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		if status == "" {
			status, _, _ = strings.Cut(res.Status, " ")
		}
		if res.Close {
			rest, _ := io.ReadAll(reader)
			if len(rest) != 0 {
				r.t.Errorf("after the last response came %q", rest)
			}
			break
		}
	}
	return status
}

func TestNothingIsSmuggled(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("User-Agent") != "ELB-HealthChecker/2.0" {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Method+" "+r.URL.Path+" "+string(body))
		}
	})
	s := start(t, Options{})
	const inner = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		mode, request, want, seen string
	}{
		"lengths that differ":      {"", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 38\r\n\r\nabc" + inner, "400", ""},
		"a length that is none":    {"", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", "400", ""},
		"an unknown encoding":      {"", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501", ""},
		"chunked twice":            {"", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501", ""},
		"a space before the colon": {"", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc", "400", ""},
		"two hosts":                {"", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400", ""},
		"a length beside chunked":  {"", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "200", "POST / abc"},
		"GET with a body":          {"", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + inner, "200", "GET / abc"},
		"and strictly":             {balance.Strictest, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "400", ""},
		"while monitoring":         {balance.Monitor, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + inner, "200", "GET / abc,GET /admin "},
		"a length in disguise":     {"", "POST / HTTP/1.1\r\nHost: x\r\nContent_Length: 9\r\nContent-Length: 3\r\n\r\nabc" + inner, "200", "POST / abc"},
		"strictly in disguise":     {balance.Strictest, "POST / HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n\r\n", "400", ""},
		"odd bytes":                {balance.Strictest, "GET / HTTP/1.1\r\nHost: x\r\nX-Name: caf\xe9\r\n\r\n", "400", ""},
		"odd bytes, defensively":   {"", "GET / HTTP/1.1\r\nHost: x\r\nX-Name: caf\xe9\r\n\r\n", "200", "GET / "},
		"TRACE":                    {"", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", "405", ""},
		"CONNECT":                  {"", "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", "405", ""},
		"a long line":              {"", "GET /" + strings.Repeat("x", maxRequestLine) + " HTTP/1.1\r\nHost: x\r\n\r\n", "414", ""},
		"a long header":            {"", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", maxHeader) + "\r\n\r\n", "400", ""},
		"too many headers":         {"", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 70) + "\r\n", "431", ""},
	} {
		t.Run(name, func(t *testing.T) {
			table := simple(target)
			table.LoadBalancers[0].DesyncMode = c.mode
			s.healthy(table)
			mu.Lock()
			seen = nil
			mu.Unlock()
			if got := s.raw(c.request, 1+strings.Count(c.seen, ",")); c.want != "" && got != c.want {
				t.Errorf("answer %s, want %s", got, c.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(seen, ","); c.want != "" && got != c.seen {
				t.Errorf("the target saw %q, want %q", got, c.seen)
			}
			for _, one := range seen {
				if strings.Contains(one, "/admin") && c.mode != balance.Monitor {
					t.Errorf("smuggled: %q", seen)
				}
			}
		})
	}
}

func TestMalformedBodiesAreTheClientsFault(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, mirror)))
	for _, chunk := range []string{"fffffffffffffffff\r\nabc", "x\r\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n"} {
		if got := s.raw("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk, 1); got != "400" {
			t.Errorf("%q: %s, want 400", chunk, got)
		}
	}
}
