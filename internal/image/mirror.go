package image

import (
	"fmt"
	"net/url"
	"strings"
)

// parseMirrors reads Options.Mirrors.
func parseMirrors(all map[string][]string) (map[string][]*url.URL, error) {
	mirrors := map[string][]*url.URL{}
	for host, bases := range all {
		if host == "" || strings.ContainsAny(host, "/@? ") {
			return nil, fmt.Errorf("registry mirror: %q is not a registry's host; write it as references do, docker.io=https://mirror:5000", host)
		}
		for _, base := range bases {
			u, err := url.Parse(base)
			if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
				return nil, fmt.Errorf("registry mirror of %s: %q is not a URL such as https://mirror:5000", host, base)
			}
			if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				return nil, fmt.Errorf("registry mirror of %s: %s holds credentials, a query or a fragment; it may have a scheme, a host and a path", host, u.Redacted())
			}
			mirrors[host] = append(mirrors[host], u)
		}
	}
	return mirrors, nil
}
