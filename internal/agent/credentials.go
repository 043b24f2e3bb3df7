package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/network"
)

// credentialsPath is where a task's role is fetched, by its id.
const credentialsPath = "/v2/credentials/"

// credentialsAnswer is what AWS's SDKs read of a container's credentials.
type credentialsAnswer struct {
	RoleArn         string
	AccessKeyId     string
	SecretAccessKey string
	Token           string
	Expiration      string
}

// credentialsRefusal is why there are none, as Amazon's agent words it.
type credentialsRefusal struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	ErrorCode int    `json:"HTTPErrorCode"`
}

// handleCredentials serves the credentials of tasks' roles. The id is in the
// environment of the task's containers alone, and it counts only for requests that
// come from their addresses: a neighbour that has learnt it is told that it is wrong.
func (a *Agent) handleCredentials(mux *http.ServeMux) {
	serve := func(id func(*http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { a.serveCredentials(w, r, id(r)) }
	}
	mux.HandleFunc("GET "+credentialsPath+"{id}", serve(func(r *http.Request) string { return r.PathValue("id") }))
	mux.HandleFunc("GET /v1/credentials", serve(func(r *http.Request) string { return r.URL.Query().Get("id") }))
	mux.HandleFunc("GET "+credentialsPath+"{$}", serve(func(*http.Request) string { return "" }))
}

func (a *Agent) serveCredentials(w http.ResponseWriter, r *http.Request, id string) {
	if !a.admit(w, id) {
		return
	}
	refuse := func(status int, code, message string) {
		answer(w, status, credentialsRefusal{code, message, status})
	}
	if id == "" {
		refuse(http.StatusBadRequest, "NoIdInRequest", "There is no id in the request: use the path in AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.")
		return
	}
	c, task, ok := a.engine.vault.byID(id)
	switch {
	case ok && a.isOf(r, task):
		if c == nil {
			refuse(http.StatusServiceUnavailable, "CredentialsUninitialized", "The control plane has not sent the credentials yet. Try again.")
			return
		}
		answer(w, http.StatusOK, credentialsAnswer{c.RoleARN, c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration})
	case ok || a.fromSandbox(r) || !a.peers.pass(w, r):
		refuse(http.StatusBadRequest, "InvalidIdInRequest", "The id is not that of a role of this task: use the path in AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.")
	}
}

// isOf tells whether a request comes from a task: from a sandbox of its own, or, in
// host mode, from none at all.
func (a *Agent) isOf(request *http.Request, task string) bool {
	r := a.engine.byTaskID(task)
	if r == nil {
		return false
	}
	sandbox, inside := a.networks.SandboxAt(sourceOf(request))
	for i := range r.Containers {
		if inside && sandbox.ID == r.sandboxID(i) || !inside && r.mode(i) == network.ModeHost {
			return true
		}
	}
	return false
}

func (a *Agent) fromSandbox(r *http.Request) bool {
	_, inside := a.networks.SandboxAt(sourceOf(r))
	return inside
}

// sourceOf is the address that a request came from.
func sourceOf(r *http.Request) netip.Addr {
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero address is nobody's
	return from.Addr().Unmap()
}

// roleCredentials are the sets that came with a task.
func roleCredentials(t *acs.Task) map[string]*acs.Credentials {
	all := map[string]*acs.Credentials{}
	if t.RoleCredentials != nil {
		all[acs.RoleTask] = t.RoleCredentials
	}
	if t.ExecutionRoleCredentials != nil {
		all[acs.RoleExecution] = t.ExecutionRoleCredentials
	}
	return all
}

// keepCredentials takes the sets that came with a task that the node has.
func (e *engine) keepCredentials(id string, t *acs.Task) {
	for kind, c := range roleCredentials(t) {
		if err := e.vault.put(roleKey{id, kind}, c); err != nil {
			e.log.Error("credentials of a task's role cannot be used", "task", id, "role", c.RoleARN, "error", err)
		}
	}
}

// renew takes new credentials; false when the node has no such task.
func (e *engine) renew(m *acs.CredentialsMessage) bool {
	id := taskID(m.TaskARN)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.workers[id] == nil || m.RoleType != acs.RoleTask && m.RoleType != acs.RoleExecution {
		return false
	}
	if err := e.vault.put(roleKey{id, m.RoleType}, &m.Credentials); err != nil {
		e.log.Error("credentials of a task's role cannot be used", "task", id, "role", m.Credentials.RoleARN, "error", err)
		return false
	}
	return true
}

// byTaskID returns a copy of a task's record, nil when the node does not have it.
func (e *engine) byTaskID(id string) *record {
	e.mu.Lock()
	w := e.workers[id]
	e.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.snapshot()
}

// receiveCredentials acknowledges credentials that the node has a use for; others are
// sent again, until the control plane knows that the task is gone.
func (s *assignments) receiveCredentials(ctx context.Context, message json.RawMessage) error {
	var m acs.CredentialsMessage
	if err := json.Unmarshal(message, &m); err != nil || !s.engine.renew(&m) {
		return nil
	}
	return s.acknowledgeCredentials(ctx, m.MessageID, &m.Credentials)
}

func (s *assignments) acknowledgeCredentials(ctx context.Context, message string, c *acs.Credentials) error {
	return s.client.Send(ctx, acs.TypeCredentialsAck, acs.CredentialsAck{
		MessageID: message, CredentialsID: c.CredentialsID, Expiration: c.Expiration,
	})
}

// executionRole provides what container i's output is delivered with, nil where that
// is the node's own identity.
func (w *worker) executionRole(r *record, i int) aws.CredentialsProvider {
	key := roleKey{r.ID, acs.RoleExecution}
	if r.Task.Containers[i].LogsAuthStrategy != logsByExecutionRole || r.Roles[key.kind] == "" {
		return nil
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c, err := w.vault.retrieve(key)
		if err != nil && w.snapshot().SentStopped {
			// Nobody renews them any more. The last lines go by the node, which may write
			// to its tasks' streams, rather than nowhere.
			return aws.Credentials{}, ErrRoleOver
		}
		return c, err
	})
}

// logsByExecutionRole has a container's output delivered under the execution role.
const logsByExecutionRole = "ExecutionRole"
