package iam

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"unicode"
)

// policyKind tells what a policy document may hold.
type policyKind string

const (
	identityPolicy policyKind = "identity"
	trustPolicy    policyKind = "trust"
)

// Sizes of policies in characters, white space not counted.
const (
	maxUserInline  = 2048
	maxRoleInline  = 10240
	maxGroupInline = 5120
	maxManaged     = 6144
	maxTrust       = 2048
)

// checkPolicy refuses a document that is not a policy of the kind.
func checkPolicy(_ policyKind, text string) error {
	var document struct {
		Statement json.RawMessage
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := decoder.Decode(&document); err != nil || decoder.More() {
		return errDocument("This policy contains invalid Json")
	}
	if len(document.Statement) == 0 {
		return errDocument("Syntax errors in policy.")
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
