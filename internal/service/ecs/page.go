package ecs

import (
	"encoding/base64"
	"iter"
	"strings"
)

const maxPage = 100

// pageSize checks maxResults: 1 to 100, by default 100.
func pageSize(maxResults *int32) (int, error) {
	if maxResults == nil {
		return maxPage, nil
	}
	if *maxResults < 1 || *maxResults > maxPage {
		return 0, errInvalidParameter("maxResults must be between 1 and %d.", maxPage)
	}
	return int(*maxResults), nil
}

const tokenPrefix = "after:"

// page takes a page from keys, which come in order, and returns the token of the
// next one. A token is the last key of its page, so that a page is not disturbed
// by what appears or goes meanwhile.
func page(keys iter.Seq[string], maxResults *int32, token *string) ([]string, *string, error) {
	size, err := pageSize(maxResults)
	if err != nil {
		return nil, nil, err
	}
	after := ""
	if deref(token) != "" {
		raw, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil || !strings.HasPrefix(string(raw), tokenPrefix) {
			return nil, nil, errInvalidParameter("Invalid token.")
		}
		after = string(raw[len(tokenPrefix):])
	}
	out := []string{}
	for key := range keys {
		if key <= after {
			continue
		}
		if len(out) == size {
			next := base64.RawURLEncoding.EncodeToString([]byte(tokenPrefix + out[size-1]))
			return out, &next, nil
		}
		out = append(out, key)
	}
	return out, nil, nil
}
