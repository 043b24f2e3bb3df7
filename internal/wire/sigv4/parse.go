package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm   = "AWS4-HMAC-SHA256"
	terminator  = "aws4_request"
	isoFormat   = "20060102T150405Z"
	dateFormat  = "20060102"
	maxExpires  = 7 * 24 * time.Hour
	maxSkew     = 5 * time.Minute
	maxHeaders  = 128
	maxAuthSize = 16 << 10
)

// UnsignedPayload stands for the body's hash where the body is not signed.
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// Reason tells why a signature is refused.
type Reason int

// The reasons, each of which AWS answers with a code of its own.
const (
	// Missing: the request carries no signature.
	Missing Reason = iota + 1
	// Incomplete: the signature is malformed or lacks a part.
	Incomplete
	// Mismatch: it is not the signature of this request by this key, or its
	// scope is not the one asked for, or its time is too far from ours.
	Mismatch
	// Expired: a presigned request's time is over.
	Expired
)

// Error is a refusal, with AWS's message.
type Error struct {
	Reason  Reason
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

func incomplete(message string) error { return &Error{Incomplete, message} }
func mismatch(message string) error   { return &Error{Mismatch, message} }

// Signature is what a request's head says of its signature. Nothing of it is
// to be believed before Verify has succeeded.
type Signature struct {
	AccessKeyID string
	// Date (YYYYMMDD), Region and Service are the credential's scope.
	Date    string
	Region  string
	Service string
	// SessionToken is empty for long-lived credentials.
	SessionToken string
	// Time is when the request was signed.
	Time time.Time
	// Presigned is the query form; such a request is valid for Expires from Time.
	Presigned bool
	Expires   time.Duration

	signedHeaders []string
	signature     string
}

// Signed tells whether a request carries a signature in either form.
func Signed(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || strings.Contains(rawQuery(r), "X-Amz-Signature=")
}

// Parse reads the signature from a request's head.
func Parse(r *http.Request) (*Signature, error) {
	auth := r.Header.Values("Authorization")
	presigned := strings.Contains(rawQuery(r), "X-Amz-Signature=")
	switch {
	case len(auth) == 0 && !presigned:
		return nil, &Error{Missing, "Missing Authentication Token"}
	case len(auth) > 1 || len(auth) == 1 && presigned:
		return nil, incomplete("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, or one Authorization header, should be specified")
	case presigned:
		return parseQuery(r)
	}
	return parseHeader(r, auth[0])
}

func parseHeader(r *http.Request, auth string) (*Signature, error) {
	if len(auth) > maxAuthSize {
		return nil, incomplete("Authorization header is too long")
	}
	alg, rest, _ := strings.Cut(auth, " ")
	if alg != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': '" + clip(alg) + "', only " + algorithm + " is supported")
	}
	parts := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok || parts[name] != "" {
			return nil, incomplete("'" + clip(field) + "' not a valid key=value pair (missing equal-sign, or given twice) in Authorization header: '" + clip(auth) + "'.")
		}
		parts[name] = value
	}
	date := r.Header.Values("X-Amz-Date")
	if len(date) == 0 {
		date = r.Header.Values("Date")
	}
	var lacks []string
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			lacks = append(lacks, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if len(date) != 1 {
		lacks = append(lacks, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	if len(lacks) > 0 {
		return nil, incomplete(strings.Join(lacks, " ") + " Authorization=" + clip(alg))
	}
	if len(r.Header.Values("X-Amz-Security-Token")) > 1 {
		return nil, incomplete("X-Amz-Security-Token is given twice")
	}
	s := &Signature{
		SessionToken: r.Header.Get("X-Amz-Security-Token"),
		signature:    parts["Signature"],
	}
	return s, s.fill(r, parts["Credential"], parts["SignedHeaders"], date[0])
}

func parseQuery(r *http.Request) (*Signature, error) {
	raw := rawQuery(r)
	if len(raw) > 64<<10 {
		return nil, incomplete("The query string is too long")
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, incomplete("The query string is malformed")
	}
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if len(q[name]) != 1 || q[name][0] == "" {
			return nil, incomplete("AWS query-string parameters must include '" + name + "'. Re-examine the query-string parameters.")
		}
	}
	if alg := q.Get("X-Amz-Algorithm"); alg != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': '" + clip(alg) + "', only " + algorithm + " is supported")
	}
	if len(q["X-Amz-Security-Token"]) > 1 || len(q["X-Amz-Expires"]) > 1 {
		return nil, incomplete("A query-string parameter is given twice")
	}
	s := &Signature{
		SessionToken: q.Get("X-Amz-Security-Token"),
		Presigned:    true,
		Expires:      maxSkew,
		signature:    q.Get("X-Amz-Signature"),
	}
	if e := q.Get("X-Amz-Expires"); e != "" {
		seconds, err := strconv.ParseUint(e, 10, 31)
		if err != nil || seconds < 1 || seconds > uint64(maxExpires/time.Second) {
			return nil, incomplete("X-Amz-Expires must be a number between 1 and 604800 seconds")
		}
		s.Expires = time.Duration(seconds) * time.Second
	}
	return s, s.fill(r, q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Date"))
}

// fill parses what both forms have in common, and holds the scope against the time.
func (s *Signature) fill(r *http.Request, credential, headers, date string) error {
	c := strings.Split(credential, "/")
	if len(c) < 5 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '" + clip(credential) + "'")
	}
	// An access key id may hold slashes; the scope is the last four elements.
	n := len(c) - 4
	s.AccessKeyID = strings.Join(c[:n], "/")
	s.Date, s.Region, s.Service = c[n], c[n+1], c[n+2]
	if s.AccessKeyID == "" || len(s.AccessKeyID) > 256 {
		return incomplete("Credential must begin with an access key id of at most 256 characters")
	}
	if c[n+3] != terminator {
		return mismatch("Credential should be scoped with a valid terminator: '" + terminator + "', not '" + clip(c[n+3]) + "'.")
	}
	if !validScope(s.Region) || !validScope(s.Service) {
		return mismatch("Credential should be scoped to a valid region and service, not '" + clip(s.Region) + "/" + clip(s.Service) + "'.")
	}
	t, ok := parseDate(date)
	if !ok {
		return incomplete("Date must be in ISO-8601 'basic format'. Got '" + clip(date) + "'. See http://en.wikipedia.org/wiki/ISO_8601")
	}
	s.Time = t
	if iso := t.Format(dateFormat); iso != s.Date {
		return mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" + clip(s.Date) + "' != '" + iso + "', from '" + clip(date) + "'.")
	}
	return s.fillHeaders(r, headers)
}

// fillHeaders takes the list of signed headers and refuses one that leaves open
// what the request means.
func (s *Signature) fillHeaders(r *http.Request, list string) error {
	s.signedHeaders = strings.Split(strings.ToLower(list), ";")
	if len(s.signedHeaders) > maxHeaders {
		return incomplete("Too many SignedHeaders")
	}
	if !slices.Contains(s.signedHeaders, "host") {
		return mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, h := range []string{"X-Amz-Date", "X-Amz-Target", "X-Amz-Content-Sha256"} {
		if len(r.Header.Values(h)) > 0 && !slices.Contains(s.signedHeaders, strings.ToLower(h)) {
			return mismatch("'" + h + "' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	return nil
}

func validScope(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{isoFormat, http.TimeFormat, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// clip shortens text of the client for a message.
func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
