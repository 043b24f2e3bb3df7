package iam

import (
	"net/url"
	"strings"
	"unicode"

	"longshore.dev/longshore/internal/policy"
)

// Sizes of policies in characters, white space not counted.
const (
	maxUserInline  = 2048
	maxRoleInline  = 10240
	maxGroupInline = 5120
	maxManaged     = 6144
	maxTrust       = 2048
)

// checkPolicy refuses a text that is not a policy of the kind.
func checkPolicy(kind policy.Kind, text string) error {
	if _, err := policy.Parse([]byte(text), kind); err != nil {
		return errDocument("%s", err.Error())
	}
	return nil
}

// sizeOf counts the characters of a document that count.
func sizeOf(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// encoded is a document as answers carry it: percent-encoded by RFC 3986.
func encoded(document string) *string {
	text := strings.ReplaceAll(url.QueryEscape(document), "+", "%20")
	return &text
}
