package policy

import (
	"slices"
	"strings"
)

// Context is what is known of a request: condition keys and their values. The names
// of keys are the same in either case of their letters. A nil Context has none.
type Context struct {
	values map[string][]string
}

// NewContext returns an empty context with room for n keys.
func NewContext(n int) *Context { return &Context{values: make(map[string][]string, n)} }

// Set gives a key its values; none make the key absent.
func (c *Context) Set(key string, values ...string) {
	key = lower(key)
	if len(values) == 0 {
		delete(c.values, key)
		return
	}
	c.values[key] = values
}

// Merge adds keys with their values. Two whose names differ only in the case of their
// letters, as tags may, are one key; where they disagree it has no value, so that
// nobody meets a condition with one of them and has his way with the other.
func (c *Context) Merge(values map[string][]string) {
	added := make(map[string]bool, len(values))
	for name, v := range values {
		key := lower(name)
		switch {
		case !added[key]:
			added[key] = true
			c.Set(key, v...)
		case !slices.Equal(c.values[key], v):
			delete(c.values, key)
		}
	}
}

// Has tells whether a key has a value.
func (c *Context) Has(key string) bool { return len(c.get(lower(key))) > 0 }

// Clone returns a copy that can be changed.
func (c *Context) Clone() *Context {
	n := NewContext(len(c.values) + 2)
	for k, v := range c.values {
		n.values[k] = v
	}
	return n
}

// get returns the values of a key that is given in lower case.
func (c *Context) get(key string) []string {
	if c == nil {
		return nil
	}
	return c.values[key]
}

// single returns the value of a key that has exactly one; a variable stands for that,
// and an empty one is none.
func (c *Context) single(key string) (string, bool) {
	v := c.get(key)
	if len(v) != 1 || v[0] == "" {
		return "", false
	}
	return v[0], true
}

// lower is strings.ToLower for names, which are ASCII nearly always.
func lower(s string) string { return strings.ToLower(s) }
