package iam

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

const maxTags = 50

// setTags adds tags. Keys that differ only in case are the same key.
func setTags(have map[string]string, add []types.Tag) (map[string]string, error) {
	if have == nil {
		have = map[string]string{}
	}
	seen := map[string]bool{}
	for _, t := range add {
		k, v := deref(t.Key), deref(t.Value)
		folded := strings.ToLower(k)
		if seen[folded] {
			return nil, errInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		if strings.HasPrefix(folded, "aws:") {
			return nil, errInput("Tag keys beginning with 'aws:' are reserved for system use and cannot be modified.")
		}
		seen[folded] = true
		dropTag(have, k)
		have[k] = v
	}
	if len(have) > maxTags {
		return nil, errLimit("The number of tags has reached the maximum limit.")
	}
	return have, nil
}

func dropTag(have map[string]string, k string) {
	for old := range have {
		if strings.EqualFold(old, k) {
			delete(have, old)
		}
	}
}

func tagList(tags map[string]string) []types.Tag {
	list := []types.Tag{}
	for k, v := range named(tags) {
		list = append(list, types.Tag{Key: &k, Value: &v})
	}
	return list
}

// someTags is nil for none, as answers leave them out.
func someTags(tags map[string]string) []types.Tag {
	if len(tags) == 0 {
		return nil
	}
	return tagList(tags)
}

func pageTags(tags map[string]string, marker *string, maxItems *int32) (paged[types.Tag], error) {
	return page(func(yield func(string, types.Tag) bool) {
		for _, t := range tagList(tags) {
			if !yield(*t.Key, t) {
				return
			}
		}
	}, marker, maxItems)
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
