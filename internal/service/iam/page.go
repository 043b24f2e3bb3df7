package iam

import (
	"encoding/base64"
	"iter"
	"maps"
	"slices"
	"strings"

	"longshore.dev/longshore/internal/wire"
)

const (
	defaultPage = 100
	maxPage     = 1000
	markPrefix  = "after:"
)

// paged is one page of a listing.
type paged[T any] struct {
	Items     []T
	Marker    *string // of the next page
	Truncated bool
}

// page takes a page from items, which come in the order of their keys. A marker is
// the last key of its page, so that what appears or goes meanwhile disturbs nothing.
func page[T any](items iter.Seq2[string, T], marker *string, maxItems *int32) (paged[T], error) {
	size, after := defaultPage, ""
	if maxItems != nil {
		size = min(max(int(*maxItems), 1), maxPage)
	}
	if marker != nil {
		raw, err := base64.RawURLEncoding.DecodeString(*marker)
		if err != nil || !strings.HasPrefix(string(raw), markPrefix) {
			return paged[T]{}, wire.Errorf("ValidationError", "Invalid Marker.")
		}
		after = string(raw[len(markPrefix):])
	}
	p, last := paged[T]{Items: []T{}}, ""
	for k, v := range items {
		if marker != nil && k <= after {
			continue
		}
		if len(p.Items) == size {
			next := base64.RawURLEncoding.EncodeToString([]byte(markPrefix + last))
			p.Marker, p.Truncated = &next, true
			return p, nil
		}
		p.Items, last = append(p.Items, v), k
	}
	return p, nil
}

// named lists values under names, in the order of the names.
func named[T any](m map[string]T) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}

// each maps a page's items.
func each[T, U any](items []T, fn func(T) U) []U {
	out := make([]U, len(items))
	for i, item := range items {
		out[i] = fn(item)
	}
	return out
}
