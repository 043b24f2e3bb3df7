package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// joinPath is where a new node asks for credentials of its own, signed by the
// root user for the service "ecs".
const joinPath = "/_longshore/nodes"

// maxJoinBody bounds a join request and its answer.
const maxJoinBody = 4 << 10

var nodeIDPattern = regexp.MustCompile(`^[a-z0-9-]{4,64}$`)

// joinRequest asks for a node's credentials.
type joinRequest struct {
	NodeID string `json:"nodeId"`
	// Universal and Fargate are what the node may offer.
	Universal bool `json:"universal,omitempty"`
	Fargate   bool `json:"fargate,omitempty"`
}

// joinAnswer holds them.
type joinAnswer struct {
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	Error           string `json:"error,omitempty"`
}

// serveJoin gives a node credentials of its own: only the root user may ask.
func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, err error) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(joinAnswer{Error: err.Error()})
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoinBody))
	if err != nil {
		fail(http.StatusRequestEntityTooLarge, errors.New("the request is too large"))
		return
	}
	principal, _, err := s.authenticate(r, body)
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		fail(http.StatusForbidden, fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()))
		return
	case err != nil:
		fail(http.StatusInternalServerError, errors.New("the request could not be authenticated"))
		return
	case principal.Kind != wire.PrincipalRoot:
		fail(http.StatusForbidden, errors.New("only the root user may add nodes"))
		return
	}
	var in joinRequest
	if err := json.Unmarshal(body, &in); err != nil || !nodeIDPattern.MatchString(in.NodeID) {
		fail(http.StatusBadRequest, errors.New("the request names no node id of the form [a-z0-9-]{4,64}"))
		return
	}
	key, err := s.AddNode(r.Context(), in.NodeID, in.Universal, in.Fargate)
	if err != nil {
		s.log.Error("a node could not be added", "node", in.NodeID, "error", err)
		fail(http.StatusInternalServerError, errors.New("the node could not be added; the server's log says why"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(joinAnswer{AccessKeyID: key.ID, SecretAccessKey: key.Secret})
}

// Join asks the server at endpoint, as its root user, for a node's credentials.
func Join(ctx context.Context, endpoint, region string, root iam.AccessKey, nodeID string) (iam.AccessKey, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, err := json.Marshal(joinRequest{NodeID: nodeID})
	if err != nil {
		return iam.AccessKey{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(endpoint, "/")+joinPath, bytes.NewReader(body))
	if err != nil {
		return iam.AccessKey{}, fmt.Errorf("server URL %q: %w", endpoint, err)
	}
	credentials := sigv4.Credentials{AccessKeyID: root.ID, SecretAccessKey: root.Secret}
	if err := sigv4.Sign(r, credentials, region, "ecs", sigv4.Hash(body), time.Now()); err != nil {
		return iam.AccessKey{}, fmt.Errorf("sign the request to join: %w", err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return iam.AccessKey{}, fmt.Errorf("join %s: %w", endpoint, err)
	}
	defer response.Body.Close()
	var a joinAnswer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxJoinBody)).Decode(&a); err != nil {
		return iam.AccessKey{}, fmt.Errorf("join %s: the answer (%s) is not a Longshore server's", endpoint, response.Status)
	}
	if a.Error != "" || a.AccessKeyID == "" {
		return iam.AccessKey{}, fmt.Errorf("join %s: %s", endpoint, a.Error)
	}
	return iam.AccessKey{ID: a.AccessKeyID, Secret: a.SecretAccessKey}, nil
}
