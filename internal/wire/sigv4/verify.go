package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"
)

// Options vary the canonical request.
type Options struct {
	// S3 takes the path as it is, and lets a client leave its body unsigned.
	S3 bool
}

// EmptyHash is the hash of an empty body.
const EmptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Hash returns the payload hash of a body.
func Hash(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

// CheckTime refuses a signature that was made more than five minutes from now,
// or, presigned, one that is over.
func (s *Signature) CheckTime(now time.Time) error {
	now = now.UTC()
	at := s.Time.Format(isoFormat)
	if s.Time.After(now.Add(maxSkew)) {
		return mismatch("Signature not yet current: " + at + " is still later than " +
			now.Add(maxSkew).Format(isoFormat) + " (" + now.Format(isoFormat) + " + 5 min.)")
	}
	if s.Presigned {
		if now.After(s.Time.Add(s.Expires)) {
			return &Error{Expired, "Request has expired."}
		}
		return nil
	}
	if s.Time.Before(now.Add(-maxSkew)) {
		return mismatch("Signature expired: " + at + " is now earlier than " +
			now.Add(-maxSkew).Format(isoFormat) + " (" + now.Format(isoFormat) + " - 5 min.)")
	}
	return nil
}

// CheckScope refuses a signature that was made for another service or region.
// An empty region stands for any.
func (s *Signature) CheckScope(region, service string) error {
	if s.Service != service {
		return mismatch("Credential should be scoped to correct service: '" + service + "'.")
	}
	if region != "" && s.Region != region {
		return mismatch("Credential should be scoped to a valid region, not '" + s.Region + "'.")
	}
	return nil
}

// Verify tells whether the signature is r's under secret. payloadHash is the
// hash of the body that was received; a hash that the client declared in
// X-Amz-Content-Sha256 has to be the same.
func (s *Signature) Verify(r *http.Request, secret, payloadHash string, opts Options) error {
	if declared := r.Header.Get("X-Amz-Content-Sha256"); declared != "" && declared != payloadHash {
		if !opts.S3 || declared != UnsignedPayload {
			return mismatch("The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
		payloadHash = declared
	} else if declared == "" && opts.S3 && s.Presigned {
		payloadHash = UnsignedPayload
	}
	ok, err := s.matches(r, secret, payloadHash, opts.S3, "X-Amz-Signature")
	if !ok && err == nil && s.Presigned && s.SessionToken != "" {
		// Some services' clients add the token after signing.
		ok, err = s.matches(r, secret, payloadHash, opts.S3, "X-Amz-Signature", "X-Amz-Security-Token")
	}
	if err != nil {
		return err
	}
	if !ok {
		return mismatch("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func (s *Signature) matches(r *http.Request, secret, payloadHash string, s3 bool, skip ...string) (bool, error) {
	if !s.Presigned {
		skip = nil
	}
	canonical, err := canonicalRequest(r, s.signedHeaders, payloadHash, s3, skip...)
	if err != nil {
		return false, err
	}
	want := sign(secret, s.Date, s.Region, s.Service, stringToSign(s.Time, s.scope(), canonical))
	got, err := hex.DecodeString(s.signature)
	return err == nil && hmac.Equal(got, want), nil
}

func (s *Signature) scope() string {
	return s.Date + "/" + s.Region + "/" + s.Service + "/" + terminator
}

func stringToSign(t time.Time, scope, canonical string) string {
	return algorithm + "\n" + t.UTC().Format(isoFormat) + "\n" + scope + "\n" + Hash([]byte(canonical))
}

// sign derives the key for a scope and signs text with it.
func sign(secret, date, region, service, text string) []byte {
	key := mac([]byte("AWS4"+secret), date)
	key = mac(key, region)
	key = mac(key, service)
	key = mac(key, terminator)
	return mac(key, text)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
