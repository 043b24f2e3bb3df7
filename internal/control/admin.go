package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/wire"
)

// Paths of the owner's own operations: signed by the root user, for the service "ecs".
const (
	tokensPath  = "/_longshore/tokens"
	nodesPath   = "/_longshore/nodes"
	keyPath     = "/_longshore/key"
	usersPath   = "/_longshore/users"
	explainPath = "/_longshore/explain"
	eventsPath  = "/_longshore/events"
)

// TokenOptions are what a registration token is asked for with.
type TokenOptions struct {
	// LifeSeconds is how long the token is valid, Uses how many nodes may join.
	LifeSeconds int64 `json:"lifeSeconds"`
	Uses        int   `json:"uses"`
	// Cluster is the only one that the nodes may register in; empty: any.
	Cluster string `json:"cluster,omitempty"`
	Fargate bool   `json:"fargate,omitempty"`
}

// MadeToken is a new token. Text is a secret that is shown this once.
type MadeToken struct {
	Text string        `json:"text"`
	Info iam.TokenInfo `json:"info"`
}

// adminAnswer is what the owner's operations answer with.
type adminAnswer struct {
	Token       *MadeToken       `json:"token,omitempty"`
	Tokens      []iam.TokenInfo  `json:"tokens,omitempty"`
	Nodes       []ecs.NodeInfo   `json:"nodes,omitempty"`
	User        *MadeUser        `json:"user,omitempty"`
	Key         *KeyInfo         `json:"key,omitempty"`
	Explanation *ecs.Explanation `json:"explanation,omitempty"`
	Error       *adminError      `json:"error,omitempty"`
}

type adminError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// handleAdmin registers the owner's operations.
func (s *Server) handleAdmin() {
	for _, o := range []struct {
		pattern, operation string
		run                func(ctx context.Context, r *http.Request, body []byte) (adminAnswer, error)
	}{
		{"POST " + tokensPath, "CreateJoinToken", s.createToken},
		{"GET " + tokensPath, "ListJoinTokens", s.listTokens},
		{"DELETE " + tokensPath + "/{id}", "RevokeJoinToken", s.revokeToken},
		{"POST " + usersPath, "CreateAccess", s.createUser},
		{"GET " + keyPath, "DescribeRootKey", s.showKey},
		{"POST " + keyPath, "RotateRootKey", s.rotateKey},
		{"GET " + explainPath, "Explain", s.explain},
		{"GET " + nodesPath, "ListNodes", s.listNodes},
		{"DELETE " + nodesPath + "/{id}", "RevokeNode", s.revokeNode},
	} {
		s.api.HandleInternal(o.pattern, s.admin(o.operation, o.run))
	}
	s.api.HandleInternal("GET "+eventsPath, http.HandlerFunc(s.serveEvents))
	s.api.HandleInternal("GET "+backupPath, http.HandlerFunc(s.serveBackup))
}

// admin wraps an operation in what every call passes: signature, authorisation,
// throttling, audit.
func (s *Server) admin(operation string, run func(context.Context, *http.Request, []byte) (adminAnswer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := s.callOf(r, operation)
		var answer adminAnswer
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, join.MaxBody))
		if err != nil {
			err = &wire.Error{Code: "RequestEntityTooLarge", Message: "The request is too large.", Status: http.StatusRequestEntityTooLarge}
		} else if err = s.identify(r, body, call); err == nil {
			answer, err = run(wire.WithCall(r.Context(), call), r, body)
		}
		switch {
		case r.Method == http.MethodGet:
		case call.Principal.Kind == "":
			s.auditor.RecordFailure(r.Context(), call, err)
		default:
			s.auditor.Record(r.Context(), call, []string{"longshore:" + r.URL.Path[len("/_longshore/"):]}, err)
		}
		s.answerAdmin(w, operation, answer, err)
	})
}

func (s *Server) answerAdmin(w http.ResponseWriter, operation string, answer adminAnswer, err error) {
	status := http.StatusOK
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		status = http.StatusBadRequest
		answer = adminAnswer{Error: &adminError{api.ErrorCode(), api.ErrorMessage()}}
	case err != nil:
		s.log.Error("an operation of the owner failed", "operation", operation, "error", err)
		status = http.StatusInternalServerError
		answer = adminAnswer{Error: &adminError{"InternalFailure", "The operation failed; the server's log says why."}}
	}
	writeJSON(w, status, answer)
}

// identify makes sure that the root user calls.
func (s *Server) identify(r *http.Request, body []byte, call *wire.Call) error {
	principal, region, err := s.authenticate(r, body)
	if err != nil {
		return err
	}
	call.Principal, call.Account, call.Region = principal, principal.AccountID, region
	if principal.Kind != wire.PrincipalRoot {
		return wire.Errorf("AccessDeniedException", "User: %s is not authorized to perform: longshore:%s because only the root user is", principal.ARN, call.Operation)
	}
	if s.throttler == nil {
		return nil
	}
	return s.throttler.Admit(r.Context(), call)
}

func (s *Server) createToken(ctx context.Context, _ *http.Request, body []byte) (adminAnswer, error) {
	var in TokenOptions
	if err := json.Unmarshal(body, &in); err != nil || in.LifeSeconds < 0 || in.LifeSeconds > int64(iam.MaxTokenLife/time.Second) {
		return adminAnswer{}, wire.Errorf("ValidationException", "A registration token can be valid for at most %d hours.", iam.MaxTokenLife/time.Hour)
	}
	call := wire.CallFrom(ctx)
	if in.Cluster != "" && !s.ecs.HasCluster(call.Account, call.Region, in.Cluster) {
		return adminAnswer{}, wire.Errorf("ClusterNotFoundException", "There is no cluster %q in %s: `aws ecs list-clusters` shows those that there are.", in.Cluster, call.Region)
	}
	token, info, err := s.iam.CreateJoinToken(ctx, iam.TokenRequest{
		Account: call.Account, Region: call.Region, Cluster: in.Cluster, Fargate: in.Fargate,
		Life: time.Duration(in.LifeSeconds) * time.Second, Uses: in.Uses, Pin: s.trust.pin,
	})
	if err != nil {
		return adminAnswer{}, err
	}
	return adminAnswer{Token: &MadeToken{Text: token.Text(), Info: info}}, nil
}

func (s *Server) listTokens(ctx context.Context, _ *http.Request, _ []byte) (adminAnswer, error) {
	return adminAnswer{Tokens: s.iam.JoinTokens(wire.CallFrom(ctx).Account)}, nil
}

func (s *Server) revokeToken(ctx context.Context, r *http.Request, _ []byte) (adminAnswer, error) {
	return adminAnswer{}, s.iam.RevokeJoinToken(ctx, wire.CallFrom(ctx).Account, r.PathValue("id"))
}

func (s *Server) listNodes(ctx context.Context, _ *http.Request, _ []byte) (adminAnswer, error) {
	call := wire.CallFrom(ctx)
	return adminAnswer{Nodes: s.ecs.Nodes(call.Account, call.Region)}, nil
}

// explain says why a task, a service or a deployment is as it is.
func (s *Server) explain(ctx context.Context, r *http.Request, _ []byte) (adminAnswer, error) {
	call := wire.CallFrom(ctx)
	e, err := s.ecs.Explain(call.Account, call.Region, r.URL.Query().Get("cluster"), r.URL.Query().Get("resource"))
	if err != nil {
		return adminAnswer{}, err
	}
	return adminAnswer{Explanation: &e}, nil
}

// revokeNode first ends the node's key, and then gives up what it was to run: a
// crash between the two leaves a node that can do nothing more, and the command
// can be repeated.
func (s *Server) revokeNode(ctx context.Context, r *http.Request, _ []byte) (adminAnswer, error) {
	call, id := wire.CallFrom(ctx), r.PathValue("id")
	hadKey, err := s.iam.RevokeNode(ctx, call.Account, id)
	if err != nil {
		return adminAnswer{}, fmt.Errorf("end the node's key: %w", err)
	}
	known, err := s.ecs.RevokeNode(ctx, call.Account, call.Region, id)
	if err == nil && !known && !hadKey {
		err = wire.Errorf("ResourceNotFoundException", "There is no node of this id in %s: `longshore node list` shows those that there are.", call.Region)
	}
	return adminAnswer{}, err
}
