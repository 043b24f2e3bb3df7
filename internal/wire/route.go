package wire

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"longshore.dev/longshore/internal/wire/codec"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// route finds the service, the protocol and, but for awsQuery, the operation,
// from what the head of a request shows: the protocol's header, the target, the
// credential scope or the path. On failure the protocol is set nevertheless, as
// the answer needs one.
func (x *exchange) route() error {
	r, reg := x.r, x.server.reg
	contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor":
		return x.routeCBOR(reg)
	case r.Header.Get("X-Amz-Target") != "":
		return x.routeTarget(reg, contentType)
	}
	x.protocol = AWSJSON11
	form := contentType == "application/x-www-form-urlencoded" || r.URL.Query().Has("Action")
	if form {
		x.protocol = AWSQuery
	}
	if !sigv4.Signed(r) {
		return x.routeUnsigned(reg)
	}
	sig, err := sigv4.Parse(r)
	if err != nil {
		return err
	}
	if x.service = reg.bySigning[sig.Service]; x.service == nil {
		return x.unknown(fmt.Sprintf("Longshore does not serve %q.", clip(sig.Service)))
	}
	switch {
	case x.serves(RestJSON1):
		return x.routeRest()
	case form && x.serves(AWSQuery):
		return nil
	}
	x.protocol = x.service.Info.Protocols[0]
	return x.unknown("The request names no operation: it has no X-Amz-Target and no Action.")
}

func (x *exchange) serves(p Protocol) bool {
	return slices.Contains(x.service.Info.Protocols, p)
}

// routeCBOR reads /service/{TargetPrefix}/operation/{Operation}.
func (x *exchange) routeCBOR(reg *Registry) error {
	x.protocol = RPCV2CBOR
	parts := strings.Split(strings.Trim(x.r.URL.Path, "/"), "/")
	if n := len(parts); n < 4 || parts[n-4] != "service" || parts[n-2] != "operation" || x.r.Method != http.MethodPost {
		return x.unknown("The path of rpc-v2-cbor is /service/{service}/operation/{operation}, and the method POST.")
	} else {
		x.service, x.operation = reg.byTarget[parts[n-3]], parts[n-1]
	}
	if x.service == nil || !x.serves(RPCV2CBOR) {
		x.service = nil
		return x.unknown("Longshore does not serve " + clip(x.r.URL.Path) + ".")
	}
	return nil
}

// routeTarget reads "{TargetPrefix}.{Operation}".
func (x *exchange) routeTarget(reg *Registry, contentType string) error {
	x.protocol = AWSJSON11
	if contentType == "application/x-amz-json-1.0" {
		x.protocol = AWSJSON10
	}
	target := x.r.Header.Values("X-Amz-Target")
	prefix, operation, ok := strings.Cut(target[0], ".")
	if !ok || len(target) > 1 || x.r.Method != http.MethodPost {
		return x.unknown("One X-Amz-Target of the form Service.Operation, and the method POST, are expected.")
	}
	x.service, x.operation = reg.byTarget[prefix], operation
	if x.service == nil || !x.serves(AWSJSON10) && !x.serves(AWSJSON11) {
		x.service = nil
		return x.unknown(fmt.Sprintf("Longshore does not serve the target %q.", clip(prefix)))
	}
	return nil
}

// routeUnsigned refuses a request without a signature, in the protocol that it
// seems to speak.
func (x *exchange) routeUnsigned(reg *Registry) error {
	for _, s := range reg.services {
		if matchRest(s, x.r) != nil {
			x.service, x.protocol = s, RestJSON1
		}
	}
	return &sigv4.Error{Reason: sigv4.Missing, Message: "Missing Authentication Token"}
}

func (x *exchange) routeRest() error {
	x.protocol = RestJSON1
	if x.rest = matchRest(x.service, x.r); x.rest == nil {
		return x.unknown(fmt.Sprintf("Longshore does not serve %s %s of %s.", clip(x.r.Method), clip(x.r.URL.Path), x.service.Info.Name))
	}
	x.operation = x.rest.route.op.name
	return nil
}

// restRoute is the binding of a restJson1 operation.
type restRoute struct {
	op       *operation
	method   string
	segments []string
	query    []string
}

// restMatch is a route with the path's labels.
type restMatch struct {
	route  *restRoute
	labels map[string]string
}

func newRestRoute(op *operation, method, path string, query []string) *restRoute {
	return &restRoute{op: op, method: method, segments: strings.Split(strings.Trim(path, "/"), "/"), query: query}
}

func matchRest(s *Service, r *http.Request) *restMatch {
	path := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for _, route := range s.rest {
		if route.method == r.Method {
			if labels, ok := route.match(path); ok {
				return &restMatch{route, labels}
			}
		}
	}
	return nil
}

// match compares escaped path segments. A label at the end takes the rest of the
// path: some clients leave the slashes of an ARN as they are.
func (rt *restRoute) match(path []string) (map[string]string, bool) {
	labels := map[string]string{}
	if len(path) < len(rt.segments) {
		return nil, false
	}
	for i, want := range rt.segments {
		label, isLabel := strings.CutPrefix(want, "{")
		got := path[i]
		if last := i == len(rt.segments)-1; last && isLabel {
			got = strings.Join(path[i:], "/")
		} else if last && len(path) > len(rt.segments) {
			return nil, false
		}
		value, err := url.PathUnescape(got)
		switch {
		case err != nil || value == "":
			return nil, false
		case isLabel:
			labels[strings.TrimSuffix(strings.TrimSuffix(label, "}"), "+")] = value
		case value != want:
			return nil, false
		}
	}
	return labels, true
}

// bind sets the members that come from the path and the query string.
func (m *restMatch) bind(c *codec.Codec, r *http.Request, in any) error {
	for name, value := range m.labels {
		if err := c.SetMember(in, name, []string{value}); err != nil {
			return err
		}
	}
	if len(m.route.query) == 0 {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &codec.Error{Message: "The query string is malformed"}
	}
	for _, name := range m.route.query {
		if values := q[name]; len(values) > 0 {
			if err := c.SetMember(in, name, values); err != nil {
				return err
			}
		}
	}
	return nil
}
