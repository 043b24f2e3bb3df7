package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// Authenticate finds out who signed r, whose whole body is given. It is for
// handlers of our own paths; the caller holds Signature.Service and Region
// against what it expects. Its errors are smithy.APIError with the codes of
// AWS's JSON services.
func (s *Server) Authenticate(r *http.Request, body []byte) (Principal, *sigv4.Signature, error) {
	// A frame of the telemetry session is signed as a request whose length is
	// the frame's, though the request at hand is the handshake's.
	framed := *r
	framed.ContentLength = int64(len(body))
	r = &framed
	sig, cred, err := s.identify(r.Context(), r)
	if err == nil {
		err = sig.Verify(r, cred.SecretAccessKey, sigv4.Hash(body), sigv4.Options{})
	}
	if err != nil {
		return Principal{}, nil, authError(err, AWSJSON11)
	}
	return cred.Principal, sig, nil
}

// regionPattern is what AWS's regions look like. Each is a world of its own: a
// misspelt one would be answered as an empty world.
var regionPattern = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d{1,2}$`)

// errUnknownKey is a key or session token that we do not know.
//
//lint:ignore ST1005 AWS's text
var errUnknownKey = errors.New("The security token included in the request is invalid.")

// identify does all of authentication that needs no body.
func (s *Server) identify(ctx context.Context, r *http.Request) (*sigv4.Signature, Credential, error) {
	sig, err := sigv4.Parse(r)
	if err != nil {
		return nil, Credential{}, err
	}
	if err := sig.CheckTime(s.reg.chain.Now()); err != nil {
		return nil, Credential{}, err
	}
	cred, err := s.reg.chain.Credentials.Credential(ctx, sig.AccessKeyID, sig.SessionToken)
	if errors.Is(err, ErrNoCredential) {
		return nil, cred, errUnknownKey
	}
	if err != nil {
		return nil, cred, err
	}
	if cred.SecretAccessKey == "" {
		return nil, cred, fmt.Errorf("wire: credential %s has no secret", sig.AccessKeyID)
	}
	cred.Principal.AccessKeyID = sig.AccessKeyID
	return sig, cred, nil
}

// authenticate finds the principal and reads the body: after the caller is
// known, and before the signature can be verified.
func (x *exchange) authenticate() (Principal, *sigv4.Signature, []byte, error) {
	sig, cred, err := x.server.identify(x.r.Context(), x.r)
	if err != nil {
		return Principal{}, nil, nil, err
	}
	if err := sig.CheckScope("", x.service.Info.SigningName); err != nil {
		return Principal{}, nil, nil, err
	}
	if !regionPattern.MatchString(sig.Region) {
		return Principal{}, nil, nil, &sigv4.Error{Reason: sigv4.Mismatch,
			Message: "Credential should be scoped to a valid region, not '" + clip(sig.Region) + "'."}
	}
	body, err := x.readBody()
	if err != nil {
		return Principal{}, nil, nil, err
	}
	if err := sig.Verify(x.r, cred.SecretAccessKey, sigv4.Hash(body), sigv4.Options{}); err != nil {
		return Principal{}, nil, nil, err
	}
	body, err = x.inflate(body)
	return cred.Principal, sig, body, err
}

func (x *exchange) readBody() ([]byte, error) {
	limit := x.service.Info.MaxBodyBytes
	if x.r.ContentLength > limit {
		return nil, errTooLarge(limit)
	}
	var buf bytes.Buffer
	if n := x.r.ContentLength; n > 0 {
		buf.Grow(int(min(n, 64<<10)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(x.w, x.r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge(limit)
	case errors.Is(err, errBodiesFull):
		return nil, errBodiesFull
	case err != nil:
		return nil, &Error{Code: "RequestTimeout", Message: "The request's body could not be read: it ended early or too late."}
	}
	x.bodyRead = true
	return buf.Bytes(), nil
}

func errTooLarge(limit int64) error {
	return &Error{
		Code:    "RequestEntityTooLarge",
		Message: fmt.Sprintf("The request's body is larger than %d bytes.", limit),
		Status:  http.StatusRequestEntityTooLarge,
	}
}

// inflate undoes a content encoding; the limit holds for the result.
func (x *exchange) inflate(body []byte) ([]byte, error) {
	switch enc := strings.ToLower(strings.TrimSpace(x.r.Header.Get("Content-Encoding"))); enc {
	case "", "identity", "aws-chunked", "utf-8", "amz-1.0":
		return body, nil
	case "gzip":
		limit := x.service.Info.MaxBodyBytes
		zr, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, &Error{Code: "SerializationException", Message: "The request's body is not gzip, though Content-Encoding says so."}
		}
		out, err := io.ReadAll(io.LimitReader(zr, limit+1))
		if int64(len(out)) > limit {
			return nil, errTooLarge(limit)
		}
		if err != nil {
			return nil, &Error{Code: "SerializationException", Message: "The request's gzip body is damaged."}
		}
		return out, nil
	default:
		return nil, &Error{
			Code:    "UnsupportedMediaType",
			Message: fmt.Sprintf("The content encoding %q is not supported.", clip(enc)),
			Status:  http.StatusUnsupportedMediaType,
		}
	}
}

// authError gives a refusal the code and status that AWS uses in protocol p.
func authError(err error, p Protocol) error {
	query := p == AWSQuery
	pick := func(forQuery, forOthers string) *Error {
		e := &Error{Code: forOthers, Message: err.Error(), Status: http.StatusBadRequest}
		if query {
			e.Code, e.Status = forQuery, http.StatusForbidden
		} else if p == RestJSON1 {
			e.Status = http.StatusForbidden
		}
		return e
	}
	var refused *sigv4.Error
	switch {
	case errors.Is(err, errUnknownKey):
		return pick("InvalidClientTokenId", "UnrecognizedClientException")
	case errors.Is(err, ErrExpiredCredential):
		e := pick("ExpiredToken", "ExpiredTokenException")
		e.Message = "The security token included in the request is expired"
		return e
	case !errors.As(err, &refused):
		return err
	}
	switch refused.Reason {
	case sigv4.Missing:
		return pick("MissingAuthenticationToken", "MissingAuthenticationTokenException")
	case sigv4.Incomplete:
		e := pick("IncompleteSignature", "IncompleteSignatureException")
		e.Status = http.StatusBadRequest
		return e
	case sigv4.Expired:
		return &Error{Code: "RequestExpired", Message: refused.Message}
	}
	return pick("SignatureDoesNotMatch", "InvalidSignatureException")
}
