package balance

import (
	"cmp"
	"strings"
)

// Origin is where a request came in, as a redirect sees it.
type Origin struct {
	// Protocol is HTTP or HTTPS, Host has no port, Path begins with /, Query has no ?.
	Protocol, Host, Port, Path, Query string
}

// Location is where the redirect leads. The port is always in it, as in AWS.
func (r *Redirect) Location(o Origin) string {
	fill := strings.NewReplacer(
		"#{protocol}", o.Protocol, "#{host}", o.Host, "#{port}", o.Port,
		"#{path}", strings.TrimPrefix(o.Path, "/"), "#{query}", o.Query,
	).Replace
	query := o.Query
	if r.Query != nil {
		query = fill(*r.Query)
	}
	if query != "" {
		query = "?" + query
	}
	path := fill(cmp.Or(r.Path, "/#{path}"))
	return strings.ToLower(fill(cmp.Or(r.Protocol, "#{protocol}"))) + "://" +
		fill(cmp.Or(r.Host, "#{host}")) + ":" + fill(cmp.Or(r.Port, "#{port}")) + path + query
}
