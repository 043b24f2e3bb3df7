package image

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// statusError is an answer with which a registry puts us off.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// statusError reads what a registry says about a failure. The answer to a HEAD
// says nothing: what Docker Hub tells of its limits is worth asking again.
func (t *registryTransport) statusError(rt http.RoundTripper, req *http.Request, resp *http.Response) error {
	defer resp.Body.Close()
	text := fmt.Sprintf("unexpected status from %s request to %s: %s", req.Method, resp.Request.URL.Redacted(), statusText(resp.StatusCode))
	body := resp.Body
	if req.Method == http.MethodHead && resp.StatusCode == http.StatusTooManyRequests {
		get := req.Clone(req.Context())
		get.Method = http.MethodGet
		if full, err := rt.RoundTrip(get); err == nil {
			defer full.Body.Close()
			if full.StatusCode == resp.StatusCode {
				body = full.Body
			}
		}
	}
	raw, _ := io.ReadAll(io.LimitReader(body, 16<<10))
	return &statusError{status: resp.StatusCode, text: text + serverMessage(raw)}
}

// statusText is the status line that we know, not the one that the server made up.
func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// serverMessage renders the errors in an answer as ECS shows them, "" when it has
// none in the registry API's form.
func serverMessage(body []byte) string {
	var answer struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return ""
	}
	var said []string
	for _, e := range answer.Errors[:min(len(answer.Errors), 3)] {
		code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
		said = append(said, strings.TrimSuffix(code+": "+e.Message, ": "))
	}
	return " - Server message: " + strings.Join(said, "; ")
}
