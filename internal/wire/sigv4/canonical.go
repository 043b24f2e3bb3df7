package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// wirePath and rawQuery return the path and query as they were sent: a server's
// router may have rewritten the URL.
func wirePath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		p, _, _ := strings.Cut(r.RequestURI, "?")
		return p
	}
	return r.URL.EscapedPath()
}

func rawQuery(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		_, q, _ := strings.Cut(r.RequestURI, "?")
		return q
	}
	return r.URL.RawQuery
}

// canonicalRequest builds the text whose hash is signed. skip names query
// parameters that the signature does not cover.
func canonicalRequest(r *http.Request, signed []string, payloadHash string, s3 bool, skip ...string) (string, error) {
	query, err := canonicalQuery(rawQuery(r), skip)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.Grow(512 + len(query))
	b.WriteString(r.Method)
	b.WriteByte('\n')
	b.WriteString(canonicalPath(wirePath(r), s3))
	b.WriteByte('\n')
	b.WriteString(query)
	b.WriteByte('\n')
	for _, name := range signed {
		b.WriteString(name)
		b.WriteByte(':')
		writeHeader(&b, r, name)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(strings.Join(signed, ";"))
	b.WriteByte('\n')
	b.WriteString(payloadHash)
	return b.String(), nil
}

// writeHeader writes a header's values, joined by commas, each without outer
// space and with inner runs of space as one.
func writeHeader(b *strings.Builder, r *http.Request, name string) {
	values := r.Header.Values(name)
	switch {
	case name == "host":
		host := r.Host
		if host == "" && r.URL != nil {
			host = r.URL.Host
		}
		values = []string{host}
	case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, word := range strings.Fields(v) {
			if j > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(word)
		}
	}
}

// canonicalPath encodes the path as it was sent once more, after removing dot
// segments and empty ones. S3 does neither: there every key is a path.
func canonicalPath(path string, s3 bool) string {
	if path == "" {
		return "/"
	}
	if s3 {
		if plain, err := url.PathUnescape(path); err == nil {
			path = plain
		}
		return escape(path, true)
	}
	return escape(normalize(path), true)
}

func normalize(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	var kept []string
	slash := false
	for seg := range strings.SplitSeq(path[1:], "/") {
		slash = seg == "" || seg == "." || seg == ".."
		switch {
		case seg == "..":
			kept = kept[:max(0, len(kept)-1)]
		case !slash:
			kept = append(kept, seg)
		}
	}
	if len(kept) == 0 {
		return "/"
	}
	if slash {
		kept = append(kept, "")
	}
	return "/" + strings.Join(kept, "/")
}

// canonicalQuery decodes and encodes every parameter, and sorts them.
func canonicalQuery(raw string, skip []string) (string, error) {
	if raw == "" {
		return "", nil
	}
	var pairs [][2]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(k)
		if err != nil {
			return "", incomplete("The query string is malformed")
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return "", incomplete("The query string is malformed")
		}
		if slices.Contains(skip, key) {
			continue
		}
		pairs = append(pairs, [2]string{escape(key, false), escape(value, false)})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if c := strings.Compare(a[0], b[0]); c != 0 {
			return c
		}
		return strings.Compare(a[1], b[1])
	})
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0])
		b.WriteByte('=')
		b.WriteString(p[1])
	}
	return b.String(), nil
}

// escape percent-encodes all but the unreserved characters of RFC 3986, and
// slashes where they stay.
func escape(s string, keepSlash bool) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '~' || c == '/' && keepSlash {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
