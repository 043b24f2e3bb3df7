package wiretest

import (
	"io"
	"net/http"
)

// PlainBodies hides from the transport that the SDK's request bodies can write
// themselves. The SDK closes a body as soon as the answer begins; when the server
// is faster than the transport's goroutine, a closed body that writes itself fails
// with EOF, and the transport drops the connection below the answer.
type PlainBodies struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t PlainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return t.Transport.RoundTrip(r)
}
