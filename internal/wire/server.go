package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/wire/codec"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// internalPrefix begins every path of our own, so that no bucket or repository
// can meet them.
const internalPrefix = "/_longshore/"

// Server answers AWS's clients over HTTP.
type Server struct {
	reg      *Registry
	internal *http.ServeMux
	// plain encodes the faults of requests that reached no service.
	plain *codec.Codec
}

// NewServer returns the server of a registry whose services are complete.
func NewServer(reg *Registry) *Server {
	s := &Server{reg: reg, internal: http.NewServeMux(), plain: codec.New(codec.Options{LowerCamel: true})}
	s.HandleInternal("GET "+internalPrefix+"health", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte("{\"status\":\"ok\"}\n"))
	}))
	return s
}

// HandleInternal serves a pattern of http.ServeMux whose path begins with
// /_longshore/. h authenticates its callers itself, with Authenticate.
func (s *Server) HandleInternal(pattern string, h http.Handler) { s.internal.Handle(pattern, h) }

// exchange is one HTTP request of AWS's API on its way to an answer.
type exchange struct {
	server   *Server
	w        http.ResponseWriter
	r        *http.Request
	id       string
	received time.Time

	// service may be nil when the request names none that is served.
	service  *Service
	protocol Protocol
	// operation is empty until it is known: awsQuery names it in the body.
	operation string
	rest      *restMatch
	// bodyRead tells that nothing of the request is still on its way.
	bodyRead bool
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, internalPrefix) {
		s.internal.ServeHTTP(w, r)
		return
	}
	x := &exchange{server: s, w: w, r: r, id: s.reg.chain.NewID(), received: s.reg.chain.Now()}
	w.Header().Set("X-Amzn-Requestid", x.id)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.reg.chain.Log.Error("request panicked", "request", x.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			x.fail(errPanicked)
		}
	}()
	if err := x.serve(); err != nil {
		x.fail(err)
		x.linger()
	}
}

// What is still read of a refused request's body, and for how long.
const (
	lingerBytes = 64 << 20
	lingerTime  = 10 * time.Second
)

// linger reads on after a refusal that came before the body's end. Most clients
// send their whole body before they look for an answer: a connection closed on
// them looks like a network failure, which they retry, and the reason is lost.
func (x *exchange) linger() {
	if x.bodyRead || x.r.Body == nil {
		return
	}
	discard(x.r.Body)
	control := http.NewResponseController(x.w)
	// Failures here mean that the client does without; there is nobody to tell.
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, x.r.Body, lingerBytes)
}

func (x *exchange) serve() error {
	if err := x.route(); err != nil {
		return err
	}
	principal, sig, body, err := x.authenticate()
	if err != nil {
		x.auditFailure(err)
		return err
	}
	op, in, presence, err := x.decode(body)
	if err != nil {
		return err
	}
	call := &Call{
		RequestID: x.id, Account: principal.AccountID, Region: sig.Region,
		Service: x.service.Info.Name, Operation: op.name, Principal: principal,
		SourceIP: SourceIP(x.r), Endpoint: endpoint(x.r), Secure: x.r.TLS != nil, UserAgent: x.r.UserAgent(), Time: x.received,
	}
	out, err := x.server.reg.call(x.r.Context(), call, op, in, presence.Has)
	if err != nil {
		return err
	}
	return x.reply(op, out)
}

// auditFailure records a caller that is not who it says, unless it asked for what is
// only read.
func (x *exchange) auditFailure(err error) {
	auditor := x.server.reg.chain.Auditor
	var api *Error
	if !errors.As(authError(err, x.protocol), &api) || auditor == nil {
		return
	}
	if op := x.service.ops[x.operation]; op != nil && op.readOnly {
		return
	}
	call := &Call{
		RequestID: x.id, Service: x.service.Info.Name, Operation: x.operation,
		SourceIP: SourceIP(x.r), UserAgent: x.r.UserAgent(), Secure: x.r.TLS != nil, Time: x.received,
	}
	if sig, err := sigv4.Parse(x.r); err == nil {
		call.Principal.AccessKeyID, call.Region = sig.AccessKeyID, sig.Region
	}
	auditor.RecordFailure(x.r.Context(), call, api)
}

// SourceIP is the address of a request's peer.
func SourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// endpoint is the base URL by which a request reached the server.
func endpoint(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// find returns the registered operation of this name.
func (x *exchange) find() (*operation, error) {
	if op := x.service.ops[x.operation]; op != nil {
		return op, nil
	}
	info := &x.service.Info
	name := clip(x.operation)
	if x.operation != "" && info.Knows != nil && info.Knows(x.operation) {
		return nil, x.unknown(fmt.Sprintf("Longshore does not implement %s:%s yet.", info.Name, name))
	}
	if x.protocol == AWSQuery {
		return nil, x.unknown(fmt.Sprintf("Could not find operation %s for version %s", name, info.APIVersion))
	}
	return nil, x.unknown(fmt.Sprintf("The service %s has no operation %q.", info.Name, name))
}

// unknown is AWS's answer to an operation that does not exist.
func (x *exchange) unknown(message string) error {
	switch x.protocol {
	case AWSQuery:
		return &Error{Code: "InvalidAction", Message: message}
	case RestJSON1, RPCV2CBOR:
		return &Error{Code: "UnknownOperationException", Message: message, Status: http.StatusNotFound}
	}
	return &Error{Code: "UnknownOperationException", Message: message}
}

// decode finds the operation and decodes its input.
func (x *exchange) decode(body []byte) (*operation, any, *codec.Presence, error) {
	if x.protocol == AWSQuery {
		return x.decodeQuery(body)
	}
	op, err := x.find()
	if err != nil {
		return nil, nil, nil, err
	}
	in, presence := op.newInput(), &codec.Presence{}
	switch x.protocol {
	case RPCV2CBOR:
		err = x.service.codec.DecodeCBOR(body, in, presence)
	case RestJSON1:
		if err = x.service.codec.DecodeJSON(body, in, presence); err == nil {
			err = x.rest.bind(x.service.codec, x.r, in)
		}
	default:
		err = x.service.codec.DecodeJSON(body, in, presence)
	}
	return op, in, presence, err
}

// reply writes an operation's output.
func (x *exchange) reply(op *operation, out any) error {
	buf := make([]byte, 0, 1024)
	var err error
	switch x.protocol {
	case AWSQuery:
		buf, err = x.service.codec.AppendXML(buf, out, op.name, x.service.Info.XMLNamespace, x.id)
	case RPCV2CBOR:
		buf, err = x.service.codec.AppendCBOR(buf, out)
	default:
		buf, err = x.service.codec.AppendJSON(buf, out)
	}
	if err != nil {
		return fmt.Errorf("encode the output of %s: %w", op.name, err)
	}
	x.write(http.StatusOK, buf)
	return nil
}

func (x *exchange) write(status int, body []byte) {
	h := x.w.Header()
	switch x.protocol {
	case AWSQuery:
		h.Set("Content-Type", "text/xml")
	case RPCV2CBOR:
		h.Set("Content-Type", "application/cbor")
		h.Set("Smithy-Protocol", "rpc-v2-cbor")
	case RestJSON1:
		h.Set("Content-Type", "application/json")
	case AWSJSON10:
		h.Set("Content-Type", "application/x-amz-json-1.0")
	default:
		h.Set("Content-Type", "application/x-amz-json-1.1")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if !x.bodyRead {
		// Otherwise the server reads the body's rest first, or closes.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
		h.Set("Connection", "close")
	}
	x.w.WriteHeader(status)
	// A client that has gone away is not an error of ours.
	_, _ = x.w.Write(body)
}

// gone tells that the client does not wait for an answer any more.
func (x *exchange) gone(err error) bool {
	return errors.Is(err, context.Canceled) && x.r.Context().Err() != nil
}

func clip(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
