package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"longshore.dev/longshore/internal/network"
)

// Bounds of the way from tasks to the API: requests under way, and how long one may
// take, uploads and streams included.
const (
	maxForwarded   = 512
	forwardTimeout = 10 * time.Minute
	// refusalTime is what is left to say that it took too long.
	refusalTime = 10 * time.Second
)

// internalPrefix begins the paths at the control plane that are not AWS's.
const internalPrefix = "/_longshore"

// taskAPI is where tasks find the API; AWS_ENDPOINT_URL says so to their SDKs.
var taskAPI = fmt.Sprintf("%s:%d", network.TaskAddress(), network.TaskAPIPort)

// API is where the agent passes on what tasks ask of AWS.
type API struct {
	Endpoint  *url.URL
	Transport http.RoundTripper
}

// forwarder passes tasks' requests on to the control plane as they are: they are
// signed, Host included, by whoever made them, and nothing of the node is added.
type forwarder struct {
	agent *Agent
	proxy *httputil.ReverseProxy
	slots chan struct{}
}

func (a *Agent) newForwarder(api API) *forwarder {
	f := &forwarder{agent: a, slots: make(chan struct{}, maxForwarded)}
	f.proxy = &httputil.ReverseProxy{
		Transport:     api.Transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = api.Endpoint.Scheme, api.Endpoint.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // signed as it is
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				a.log.Warn("a task's request could not be passed on to the control plane", "error", err)
			}
			refuseForward(w, http.StatusServiceUnavailable, "ServiceUnavailable", "The control plane can't be reached from this container instance. Try again.")
		},
	}
	return f
}

// ServeHTTP implements http.Handler.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sandbox, inside := f.agent.networks.SandboxAt(sourceOf(r))
	switch {
	case inside && sandbox.Mode == network.ModeNone:
		refuseForward(w, http.StatusForbidden, "AccessDeniedException", "A container without a network can't reach the API.")
		return
	case strings.HasPrefix(r.URL.Path, internalPrefix):
		refuseForward(w, http.StatusNotFound, "UnknownOperationException", "Tasks reach AWS's APIs at this address, and nothing else.")
		return
	case r.Header.Get("Upgrade") != "":
		refuseForward(w, http.StatusBadRequest, "InvalidParameterException", "This address takes no upgrades of the connection.")
		return
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		refuseForward(w, http.StatusServiceUnavailable, "ServiceUnavailable", fmt.Sprintf("The tasks of this container instance have %d requests under way, which is the most. Try again.", maxForwarded))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), forwardTimeout)
	defer cancel()
	// The connection's own deadlines are for the metadata endpoint's small answers.
	deadline, control := f.agent.now().Add(forwardTimeout+refusalTime), http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline)); err != nil {
		f.agent.log.Debug("a task's connection keeps its deadlines", "error", err)
	}
	f.proxy.ServeHTTP(w, r.WithContext(ctx))
}

func refuseForward(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
