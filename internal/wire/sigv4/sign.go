package sigv4

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Credentials sign requests.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	// SessionToken is empty for long-lived credentials.
	SessionToken string
}

// Sign adds the header form of a signature to r: X-Amz-Date,
// X-Amz-Security-Token where there is one, and Authorization. payloadHash is
// Hash(body). It covers the host, the content type and every X-Amz header that r
// has; headers added later, such as those of a websocket's upgrade, are not
// covered.
func Sign(r *http.Request, c Credentials, region, service, payloadHash string, now time.Time) error {
	r.Header.Set("X-Amz-Date", now.UTC().Format(isoFormat))
	r.Header.Del("Authorization")
	if c.SessionToken != "" {
		r.Header.Set("X-Amz-Security-Token", c.SessionToken)
	}
	signed := []string{"host"}
	for name := range r.Header {
		name = strings.ToLower(name)
		if name == "content-type" || strings.HasPrefix(name, "x-amz-") {
			signed = append(signed, name)
		}
	}
	slices.Sort(signed)
	s := scoped(c, region, service, now)
	canonical, err := canonicalRequest(r, signed, payloadHash, service == "s3")
	if err != nil {
		return err
	}
	sig := sign(c.SecretAccessKey, s.Date, region, service, stringToSign(now, s.scope(), canonical))
	r.Header.Set("Authorization", algorithm+" Credential="+c.AccessKeyID+"/"+s.scope()+
		", SignedHeaders="+strings.Join(signed, ";")+", Signature="+hex.EncodeToString(sig))
	return nil
}

// Presign adds the query form of a signature to r's URL, valid for expires from
// now. It covers the host alone.
func Presign(r *http.Request, c Credentials, region, service, payloadHash string, now time.Time, expires time.Duration) error {
	s := scoped(c, region, service, now)
	q := r.URL.Query()
	q.Set("X-Amz-Algorithm", algorithm)
	q.Set("X-Amz-Credential", c.AccessKeyID+"/"+s.scope())
	q.Set("X-Amz-Date", now.UTC().Format(isoFormat))
	q.Set("X-Amz-Expires", strconv.FormatInt(int64(expires/time.Second), 10))
	q.Set("X-Amz-SignedHeaders", "host")
	if c.SessionToken != "" {
		q.Set("X-Amz-Security-Token", c.SessionToken)
	}
	r.URL.RawQuery = q.Encode()
	canonical, err := canonicalRequest(r, []string{"host"}, payloadHash, service == "s3")
	if err != nil {
		return err
	}
	sig := sign(c.SecretAccessKey, s.Date, region, service, stringToSign(now, s.scope(), canonical))
	r.URL.RawQuery += "&X-Amz-Signature=" + url.QueryEscape(hex.EncodeToString(sig))
	return nil
}

func scoped(c Credentials, region, service string, now time.Time) *Signature {
	return &Signature{AccessKeyID: c.AccessKeyID, Date: now.UTC().Format(dateFormat), Region: region, Service: service}
}
