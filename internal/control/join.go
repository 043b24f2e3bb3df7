package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/wire"
)

// serveJoin makes a node of whoever presents a registration token. Nobody has
// credentials yet: the token is all there is.
func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request) {
	call := s.callOf(r, "JoinNode")
	if wait, ok := s.attempts.admit(call.SourceIP, call.Time); !ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		writeJSON(w, http.StatusTooManyRequests, join.Answer{Error: "too many attempts to join from this address have failed: try again later"})
		return
	}
	refuse := func(status int, code, text string) {
		s.attempts.failed(call.SourceIP, call.Time)
		s.auditor.RecordFailure(r.Context(), call, wire.Errorf(code, "%s", text))
		writeJSON(w, status, join.Answer{Error: text})
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, join.MaxBody))
	if err != nil {
		refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the request is too large, or ended early")
		return
	}
	var in join.Request
	if json.Unmarshal(body, &in) != nil || !in.Valid() {
		refuse(http.StatusBadRequest, "SerializationException", "the request is not one to join")
		return
	}
	token, err := join.Parse(in.Token)
	if err != nil {
		refuse(http.StatusForbidden, "InvalidToken", iam.ErrTokenUnknown.Error())
		return
	}
	resources := []string{"longshore:token/" + token.ID}
	m, err := s.iam.Join(r.Context(), token, in.Attempt)
	switch {
	case errors.Is(err, iam.ErrTokenUnknown), errors.Is(err, iam.ErrTokenExpired), errors.Is(err, iam.ErrTokenUsed):
		refuse(http.StatusForbidden, "InvalidToken", err.Error())
		return
	case err == nil:
		resources = append(resources, "longshore:node/"+m.NodeID)
		call.Account, call.Region = m.Account, m.Region
		err = s.ecs.PutNode(r.Context(), m.Account, m.Region, ecs.Admission{NodeID: m.NodeID, Fargate: m.Fargate, Cluster: m.Cluster})
	}
	s.auditor.Record(r.Context(), call, resources, err)
	if err != nil {
		s.log.Error("a node could not join", "source", call.SourceIP, "error", err)
		writeJSON(w, http.StatusInternalServerError, join.Answer{Error: "the node could not be added; the server's log says why"})
		return
	}
	answer := join.Answer{
		NodeID: m.NodeID, AccessKeyID: m.Key.ID, SecretAccessKey: m.Key.Secret,
		Account: m.Account, Region: m.Region, Cluster: m.Cluster, Fargate: m.Fargate,
	}
	for _, subnet := range s.ecs.Subnets(m.Account, m.Region) {
		answer.Subnets = append(answer.Subnets, subnet.CIDR)
	}
	writeJSON(w, http.StatusOK, answer)
}

// callOf describes a request on one of our own paths, for the audit log.
func (s *Server) callOf(r *http.Request, operation string) *wire.Call {
	return &wire.Call{
		RequestID: newID(), Service: "longshore", Operation: operation, SourceIP: wire.SourceIP(r), Time: s.now(),
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that went away is its own affair
}
