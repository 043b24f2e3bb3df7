package logs

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"longshore.dev/longshore/internal/bulk"
)

// digits writes a position as AWS writes event ids and tokens: 56 digits, here
// the timestamp in 20 and the sequence number in 36. As text they sort in order.
func digits(p bulk.LogPosition) string {
	return fmt.Sprintf("%020d%036d", max(p.Timestamp, 0), p.Seq)
}

func parseDigits(s string) (p bulk.LogPosition, ok bool) {
	if len(s) != 56 {
		return p, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return p, false
		}
	}
	var err1, err2 error
	p.Timestamp, err1 = strconv.ParseInt(s[:20], 10, 64)
	p.Seq, err2 = strconv.ParseUint(s[20:], 10, 64)
	return p, err1 == nil && err2 == nil
}

// Tokens of GetLogEvents name a place between events: reading goes on forward
// from it, or backward. They are the same for the same place, so that a reader at
// the end gets back the token that it passed in.
func forwardToken(p bulk.LogPosition) string  { return "f/" + digits(p) + "/s" }
func backwardToken(p bulk.LogPosition) string { return "b/" + digits(p) + "/s" }

func parseEventToken(token string) (p bulk.LogPosition, forward bool, err error) {
	middle, ok := strings.CutSuffix(token, "/s")
	forward = strings.HasPrefix(middle, "f/")
	if !ok || !forward && !strings.HasPrefix(middle, "b/") {
		return p, false, errToken()
	}
	if p, ok = parseDigits(middle[2:]); !ok {
		return p, false, errToken()
	}
	return p, forward, nil
}

// opaque and transparent wrap what a token of another operation holds; kind keeps
// one operation's tokens from being taken by another.
func opaque(kind, content string) *string {
	t := base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + content))
	return &t
}

func transparent(kind string, token *string) (content string, given bool, err error) {
	if token == nil {
		return "", false, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(*token)
	content, ok := strings.CutPrefix(string(raw), kind+":")
	if err != nil || !ok {
		return "", false, errToken()
	}
	return content, true, nil
}

// pageSize returns the number of items asked for, or the most there may be.
func pageSize(limit *int32, most int) int {
	if limit == nil || *limit < 1 || int(*limit) > most {
		return most
	}
	return int(*limit)
}
