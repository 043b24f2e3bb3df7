package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// Names of the cookies; each but that for applications has a twin for requests from other
// origins.
const (
	targetCookie = "AWSALB"
	appCookie    = "AWSALBAPP-0"
	groupCookie  = "AWSALBTG"
	crossOrigin  = "CORS"
)

// sealer seals what cookies say, so that no client learns addresses or chooses its target.
type sealer struct {
	aead cipher.AEAD
}

// newSealer makes a key up where there is none; one of another length is hashed.
func newSealer(key []byte) *sealer {
	if len(key) == 0 {
		key = make([]byte, 32)
		rand.Read(key)
	}
	sum := sha256.Sum256(key)
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		panic(err) // The length is right.
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // So is the block's.
	}
	return &sealer{aead}
}

// seal makes the value of a cookie that holds within a scope until its end.
func (s *sealer) seal(scope, value string, end time.Time) string {
	text := binary.BigEndian.AppendUint64(nil, uint64(end.Unix()))
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, append(text, value...), []byte(scope)))
}

// open returns "" for what was not sealed here, for another scope, or is too old.
func (s *sealer) open(scope, text string, now time.Time) string {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	value, err := s.aead.Open(nil, nil, raw, []byte(scope))
	if err != nil || len(value) < 8 || now.Unix() >= int64(binary.BigEndian.Uint64(value)) {
		return ""
	}
	return string(value[8:])
}

// remembered is what a cookie of the request says.
func (s *sealer) remembered(r *http.Request, name, scope string, now time.Time) string {
	for _, name := range []string{name, name + crossOrigin} {
		if c, err := r.Cookie(name); err == nil {
			if value := s.open(name+" "+scope, c.Value, now); value != "" {
				return value
			}
		}
	}
	return ""
}

// remember sets a cookie and its twin.
func (s *sealer) remember(h http.Header, name, scope, value string, seconds int, now time.Time) {
	end := now.Add(time.Duration(seconds) * time.Second)
	c := http.Cookie{Name: name, Value: s.seal(name+" "+scope, value, end), Expires: end, Path: "/"}
	h.Add("Set-Cookie", c.String())
	if name == appCookie {
		return
	}
	c.Name += crossOrigin
	c.Value = s.seal(c.Name+" "+scope, value, end)
	c.SameSite, c.Secure = http.SameSiteNoneMode, true
	h.Add("Set-Cookie", c.String())
}

// stuck is the target that the client is to stay with, "" for none.
func (x *exchange) stuck(g *balance.TargetGroup) string {
	switch {
	case g.StickySeconds == 0:
		return ""
	case g.StickyCookie == "":
		return x.f.server.sealer.remembered(x.r, targetCookie, g.ID, x.began)
	}
	if _, err := x.r.Cookie(g.StickyCookie); err != nil {
		return ""
	}
	return x.f.server.sealer.remembered(x.r, appCookie, g.ID, x.began)
}

// stick keeps the client with the target that has answered.
func (x *exchange) stick(g *balance.TargetGroup, t *target, res *http.Response) {
	switch {
	case g.StickySeconds == 0:
	case g.StickyCookie == "":
		x.remember(targetCookie, g.ID, t.key.String(), g.StickySeconds)
	case slices.ContainsFunc(res.Cookies(), func(c *http.Cookie) bool { return c.Name == g.StickyCookie }):
		x.remember(appCookie, g.ID, t.key.String(), g.StickySeconds)
	}
}
