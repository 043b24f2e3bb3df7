package wire

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/wire/codec"
)

// fault is an error on its way to a client.
type fault struct {
	// shape is the exception's name in the model, code what query clients see.
	shape   string
	code    string
	message string
	status  int
	// members is the exception itself where it is an SDK type: it may have more
	// members than a message.
	members any
}

func (f *fault) sender() bool { return f.status < 500 }

// fail answers with err. What an error that is not an API error says is logged
// and not told.
func (x *exchange) fail(err error) {
	f := x.faultOf(err)
	if f.status >= 500 && !x.gone(err) {
		x.server.reg.chain.Log.Error("request failed", "request", x.id, "service", x.serviceName(),
			"operation", x.operation, "code", f.code, "error", err.Error())
	}
	var body []byte
	h := x.w.Header()
	switch x.protocol {
	case AWSQuery:
		body = x.codec().AppendXMLError(nil, x.namespace(), x.id, f.code, f.message, f.sender(), f.members)
	case RPCV2CBOR:
		body = x.codec().AppendCBORError(nil, f.shape, f.message, f.members)
	case RestJSON1:
		h.Set("X-Amzn-Errortype", f.shape)
		body = x.codec().AppendJSONError(nil, "", f.message, f.members)
	default:
		body = x.codec().AppendJSONError(nil, f.shape, f.message, f.members)
	}
	if x.protocol != AWSQuery && x.service != nil && x.service.Info.QueryErrors {
		side := ";Sender"
		if !f.sender() {
			side = ";Receiver"
		}
		h.Set("X-Amzn-Query-Error", f.code+side)
	}
	x.write(f.status, body)
}

func (x *exchange) codec() *codec.Codec {
	if x.service == nil {
		return x.server.plain
	}
	return x.service.codec
}

func (x *exchange) namespace() string {
	if x.service == nil {
		return ""
	}
	return x.service.Info.XMLNamespace
}

func (x *exchange) serviceName() string {
	if x.service == nil {
		return ""
	}
	return x.service.Info.Name
}

func (x *exchange) faultOf(err error) *fault {
	err = authError(err, x.protocol)
	var malformed *codec.Error
	if errors.As(err, &malformed) {
		code := "SerializationException"
		if x.protocol == AWSQuery {
			code = "MalformedInput"
		}
		return &fault{shape: code, code: code, message: malformed.Error(), status: http.StatusBadRequest}
	}
	var api smithy.APIError
	var telling interface{ ClientMessage() string } // its own words for clients
	switch {
	case errors.As(err, &api):
	case errors.As(err, &telling):
		return &fault{shape: "ServiceUnavailable", code: "ServiceUnavailable", status: http.StatusServiceUnavailable, message: telling.ClientMessage()}
	case x.gone(err):
		// A client that has only closed its sending side still reads: silence would
		// be a 200 to it.
		return &fault{shape: "ServiceUnavailable", code: "ServiceUnavailable", status: http.StatusServiceUnavailable,
			message: "The request was given up, as its connection was closed. It may have had its effect."}
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{shape: "ServiceUnavailable", code: "ServiceUnavailable", status: http.StatusServiceUnavailable,
			message: "The request could not be completed in time. It may have had its effect. Try again."}
	default:
		return &fault{shape: "InternalFailure", code: "InternalFailure", status: http.StatusInternalServerError,
			message: "The request processing has failed because of an unknown error, exception or failure."}
	}
	return x.apiFault(api)
}

func (x *exchange) apiFault(api smithy.APIError) *fault {
	f := &fault{shape: api.ErrorCode(), code: api.ErrorCode(), message: api.ErrorMessage(), status: http.StatusBadRequest}
	if api.ErrorFault() == smithy.FaultServer {
		f.status = http.StatusInternalServerError
	}
	if own, ok := api.(*Error); ok && own.Status != 0 {
		f.status = own.Status
	}
	if f.code == "AccessDeniedException" && x.protocol == RestJSON1 {
		f.status = http.StatusForbidden
	}
	if q, ok := queryCode(f.code); ok && x.protocol == AWSQuery {
		f.code, f.status = q.Code, q.Status
	}
	if t := reflect.TypeOf(api); isException(t) {
		f.shape, f.members = t.Elem().Name(), api
	}
	if x.service == nil {
		return f
	}
	if ec, ok := x.service.Info.ErrorCodes[f.shape]; ok {
		if ec.Code != "" {
			f.code = ec.Code
		}
		if ec.Status != 0 {
			f.status = ec.Status
		}
	}
	return f
}

// queryCode returns what awsQuery calls an error that is common to all services.
func queryCode(code string) (ErrorCode, bool) {
	switch code {
	case "AccessDeniedException":
		return ErrorCode{"AccessDenied", http.StatusForbidden}, true
	case "ThrottlingException":
		return ErrorCode{"Throttling", http.StatusBadRequest}, true
	case "ValidationException":
		return ErrorCode{"ValidationError", http.StatusBadRequest}, true
	}
	return ErrorCode{}, false
}

// isException tells the SDK's modelled exceptions.
func isException(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct &&
		strings.HasPrefix(t.Elem().PkgPath(), "github.com/aws/aws-sdk-go-v2/service/") &&
		strings.HasSuffix(t.Elem().PkgPath(), "/types")
}
