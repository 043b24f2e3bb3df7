package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// Tables come while requests run: rules, targets, whole groups change, and no request
// fails.
func TestTablesAreSwappedUnderLoad(t *testing.T) {
	s := start(t, Options{})
	var targets []balance.Target
	for i := range 4 {
		targets = append(targets, backend(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, i)
		}))
	}
	s.healthy(simple(targets...))
	var stop atomic.Bool
	var clients sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		clients.Go(func() {
			client := newClient(t)
			for !stop.Load() {
				res, err := s.send(client, "POST", "/", strings.NewReader("x"))
				if err != nil || res.StatusCode != 200 {
					t.Errorf("%v %v", res.Response, err)
					return
				}
				done.Add(1)
			}
		})
	}
	clients.Go(func() {
		for !stop.Load() {
			s.Health()
			s.Counters()
			s.get("/")
		}
	})
	for i := range 60 {
		table := simple(targets[i%4], targets[(i+1)%4])
		group := &table.TargetGroups[0]
		switch i % 3 {
		case 1: // One drains.
			group.Targets[0].Draining = true
		case 2: // Another group.
			group.ID = fmt.Sprint("g", i)
			table.LoadBalancers[0].Listeners[0].DefaultActions = forwardTo(group.ID)
		}
		table.LoadBalancers[0].IdleTimeoutSeconds = 60 + i/20
		before := done.Load()
		s.apply(table)
		for done.Load() < before+10 && !t.Failed() {
			s.get("/")
		}
	}
	stop.Store(true)
	clients.Wait()
	t.Logf("%d requests through 60 tables", done.Load())
}

// A deployment: new targets come, old ones drain, and are shut down as soon as they have
// nothing left. No request fails.
func TestADeploymentDropsNothing(t *testing.T) {
	s := start(t, Options{})
	version := func(n int) (*httptest.Server, balance.Target) {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
		}))
		return web, targetAt(web.Listener.Addr())
	}
	old, oldTarget := version(0)
	s.healthy(simple(oldTarget))
	var stop atomic.Bool
	var clients sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		clients.Go(func() {
			client := newClient(t)
			for !stop.Load() {
				res, err := s.send(client, "POST", "/", strings.NewReader("x"))
				if err != nil || res.StatusCode != 200 {
					t.Errorf("%v %v %v", res.Response, res.text, err)
					return
				}
				done.Add(1)
			}
		})
	}
	for n := range 25 {
		fresh, target := version(n + 1)
		s.healthy(simple(oldTarget, target))
		oldTarget.Draining = true
		s.apply(simple(oldTarget, target))
		for s.Health()[0].InFlight+s.Health()[1].InFlight > 0 && !t.Failed() {
			drained := true
			for _, h := range s.Health() {
				drained = drained && (h.State != balance.Draining || h.InFlight == 0)
			}
			if drained {
				break
			}
			s.get("/")
		}
		old.Close()
		s.apply(simple(target))
		for before := done.Load(); done.Load() < before+20 && !t.Failed(); {
			s.get("/")
		}
		old, oldTarget = fresh, target
	}
	stop.Store(true)
	clients.Wait()
	old.Close()
}

// Another process takes the sockets over while requests run: none fails.
func TestSocketsAreHandedOver(t *testing.T) {
	first := start(t, Options{IdleGrace: time.Minute})
	table := simple(backend(t, named("ok")))
	port := refusing(t).Port
	table.LoadBalancers[0].Listeners[0].Port = port
	first.healthy(table)
	second := start(t, Options{Listen: func(network, address string) (net.Listener, error) {
		// What a child gets: another descriptor of the same socket.
		file, err := first.Sockets()[address].(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return net.FileListener(file)
	}})
	var stop atomic.Bool
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			client := newClient(t)
			// Half of them over new connections, half over kept ones.
			client.Transport.(*http.Transport).DisableKeepAlives = i%2 == 0
			for !stop.Load() {
				res, err := client.Post(fmt.Sprint("http://127.0.0.1:", port), "text/plain", strings.NewReader("x"))
				if err != nil || res.StatusCode != 200 {
					t.Errorf("%v %v", res, err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	second.healthy(table)
	first.stop()
	for range 20 {
		second.get("/")
	}
	stop.Store(true)
	clients.Wait()
}

// A client's connection outlives a change of rules.
func TestConnectionsOutliveTables(t *testing.T) {
	s := start(t, Options{})
	one, two := backend(t, named("1")), backend(t, named("2"))
	client := newClient(t)
	reused := 0
	ask := func() string {
		q, _ := http.NewRequest("GET", s.url("l"), nil)
		q = q.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				reused++
			}
		}}))
		res, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return string(text)
	}
	for i, target := range []balance.Target{one, two, one} {
		s.healthy(simple(target))
		if got, want := ask(), []string{"1", "2", "1"}[i]; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if reused != 2 {
		t.Errorf("%d of 2 requests after the first came over its connection", reused)
	}
	if n := s.Counters().LoadBalancers["lb"].NewConnectionCount; n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestListenersComeAndGo(t *testing.T) {
	s := start(t, Options{})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	table := simple(backend(t, named("ok")))
	lb := &table.LoadBalancers[0]
	lb.Listeners = append(lb.Listeners, balance.Listener{ID: "busy", Address: "127.0.0.1", Port: int(targetAt(taken.Addr()).Port), Protocol: balance.HTTP, DefaultActions: forwardTo("g")})
	if err := s.Apply(table); err == nil || !strings.Contains(err.Error(), "listener busy of load balancer lb is not served") || !strings.Contains(err.Error(), "free the port") {
		t.Errorf("a port that is taken: %v", err)
	}
	if got := s.get("/").text; got != "ok" {
		t.Errorf("the other listener says %q", got)
	}
	if s.Addr("busy") != nil {
		t.Error("it says that it listens")
	}
	// Once the port is free, the same table does it.
	taken.Close()
	s.apply(table)
	res, err := http.Get(s.url("busy"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()

	address := s.Addr("l").String()
	lb.Listeners = lb.Listeners[1:]
	s.apply(table)
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("a listener that is gone still listens")
	}
	twice := lb.Listeners[0]
	twice.ID = "twice"
	lb.Listeners = append(lb.Listeners[:1:1], twice)
	if err := s.Apply(table); err == nil || !strings.Contains(err.Error(), "listener busy has the address") {
		t.Errorf("two listeners at one address: %v", err)
	}
}

func TestAWrongTableChangesNothing(t *testing.T) {
	s := start(t, Options{})
	s.healthy(simple(backend(t, named("ok"))))
	wrong := simple()
	wrong.LoadBalancers[0].Listeners[0].DefaultActions = forwardTo("nowhere")
	certificate := simple()
	certificate.LoadBalancers[0].Listeners[0].Protocol = balance.HTTPS
	certificate.LoadBalancers[0].Listeners[0].Certificates = []balance.Certificate{{ChainPEM: "no", KeyPEM: "none"}}
	for want, table := range map[string]balance.Table{"nowhere": wrong, "certificate 1 of listener l": certificate} {
		if err := s.Apply(table); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the one before stays") {
			t.Errorf("%v, want %q", err, want)
		}
		if got := s.get("/").text; got != "ok" {
			t.Errorf("got %q", got)
		}
	}
}

// A request that runs when its listener goes may end.
func TestAListenerThatGoesLetsItsRequestsEnd(t *testing.T) {
	s := start(t, Options{})
	arrived, goOn := make(chan struct{}), make(chan struct{})
	s.healthy(simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-goOn
		}
		io.WriteString(w, "whole")
	})))
	result := make(chan string)
	go func() {
		res, err := s.send(newClient(t), "GET", "/slow", nil)
		result <- fmt.Sprint(res.text, " ", err)
	}()
	<-arrived
	s.apply(balance.Table{})
	close(goOn)
	if got := <-result; got != "whole <nil>" {
		t.Error(got)
	}
}

func TestTooManyConnectionsAreRefused(t *testing.T) {
	s := start(t, Options{MaxConnections: 1})
	s.healthy(simple(backend(t, named("ok"))))
	first := newClient(t)
	if res, err := s.send(first, "GET", "/", nil); err != nil || res.text != "ok" {
		t.Fatal(err)
	}
	if _, err := s.send(newClient(t), "GET", "/", nil); err == nil {
		t.Error("a second connection was served")
	}
	if res, err := s.send(first, "GET", "/", nil); err != nil || res.text != "ok" {
		t.Errorf("the first one: %v", err)
	}
	if c := s.Counters().LoadBalancers["lb"]; c.RejectedConnection == 0 || c.ActiveConnectionCount != 1 {
		t.Errorf("%+v", c)
	}
}

func TestStickiness(t *testing.T) {
	key := []byte("a key that two servers share....")
	s := start(t, Options{StickyKey: key})
	targets := []balance.Target{backend(t, named("1")), backend(t, named("2")), backend(t, named("3"))}
	table := simple(targets...)
	table.TargetGroups[0].StickySeconds = 60
	s.healthy(table)
	first := s.get("/")
	cookies := map[string]string{}
	for _, c := range first.Cookies() {
		cookies[c.Name] = c.Value
		if strings.Contains(c.Value, "127.0.0.1") {
			t.Error("the cookie shows the target's address")
		}
	}
	if cookies["AWSALB"] == "" || cookies["AWSALBCORS"] == "" {
		t.Fatalf("cookies %v", cookies)
	}
	for range 6 {
		for name, value := range cookies {
			if got := s.get("/", "Cookie", name+"="+value).text; got != first.text {
				t.Errorf("by %s went to %s, want %s", name, got, first.text)
			}
		}
	}
	// Another server of the same load balancer knows it too; another key does not.
	other := start(t, Options{StickyKey: key})
	other.healthy(table)
	stranger := start(t, Options{})
	stranger.healthy(table)
	met := map[string]bool{}
	for range 6 {
		if got := other.get("/", "Cookie", "AWSALB="+cookies["AWSALB"]).text; got != first.text {
			t.Errorf("another server went to %s, want %s", got, first.text)
		}
		met[stranger.get("/", "Cookie", "AWSALB="+cookies["AWSALB"]).text] = true
	}
	if len(met) != 3 {
		t.Errorf("a server with another key went to %v only", met)
	}
	// A target that is gone is replaced.
	for i := range targets {
		if fmt.Sprint(i+1) == first.text {
			table.TargetGroups[0].Targets = append(append([]balance.Target(nil), targets[:i]...), targets[i+1:]...)
		}
	}
	s.healthy(table)
	next := s.get("/", "Cookie", "AWSALB="+cookies["AWSALB"])
	if next.StatusCode != 200 || next.text == first.text {
		t.Errorf("%d from %s", next.StatusCode, next.text)
	}
}

func TestStickinessByTheApplicationsCookie(t *testing.T) {
	s := start(t, Options{})
	visit := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				http.SetCookie(w, &http.Cookie{Name: "session", Value: name})
			}
			io.WriteString(w, name)
		}
	}
	table := simple(backend(t, visit("1")), backend(t, visit("2")))
	table.TargetGroups[0].StickySeconds, table.TargetGroups[0].StickyCookie = 60, "session"
	s.healthy(table)
	if got := s.get("/").Cookies(); len(got) != 0 {
		t.Errorf("before the application's cookie: %v", got)
	}
	login := s.get("/login")
	var both []string
	for _, c := range login.Cookies() {
		both = append(both, c.Name+"="+c.Value)
	}
	if len(both) != 2 {
		t.Fatalf("cookies %v", both)
	}
	for range 5 {
		if got := s.get("/", "Cookie", strings.Join(both, "; ")).text; got != login.text {
			t.Errorf("went to %s, want %s", got, login.text)
		}
	}
	// Without the application's own cookie, there is nothing to stay for.
	if one, two := s.get("/", "Cookie", both[1]), s.get("/", "Cookie", both[1]); one.text == two.text {
		t.Error("stayed without the application's cookie")
	}
}

func TestGroupStickiness(t *testing.T) {
	s := start(t, Options{})
	table := simple(backend(t, named("g")))
	table.TargetGroups = append(table.TargetGroups, balance.TargetGroup{ID: "h", Protocol: balance.HTTP, Targets: []balance.Target{backend(t, named("h"))}})
	actions := forwardTo("g", "h")
	actions[0].Forward.StickySeconds = 60
	table.LoadBalancers[0].Listeners[0].DefaultActions = actions
	s.healthy(table)
	met := map[string]string{}
	for len(met) < 2 {
		res := s.get("/")
		for _, c := range res.Cookies() {
			if c.Name == "AWSALBTG" {
				met[res.text] = c.Value
			}
		}
	}
	for want, cookie := range met {
		for range 5 {
			if got := s.get("/", "Cookie", "AWSALBTG="+cookie).text; got != want {
				t.Errorf("went to %s, want %s", got, want)
			}
		}
	}
}
