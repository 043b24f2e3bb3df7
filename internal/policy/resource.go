package policy

import (
	"regexp"
	"strings"
)

func (p *parser) resourceElement(s *statement, n, is, not *node) {
	element, negated := p.either(n, is, not, "Resource")
	if p.kind == Trust {
		s.anyRes = true
		if element != nil {
			name := "Resource"
			if negated {
				name = "NotResource"
			}
			p.fail(fieldRound, "Has prohibited field "+name, "")
		}
		return
	}
	s.notRes = negated
	for _, item := range p.demanded(element, "Resource", noResourceRound) {
		if compiled, ok := p.resourcePattern(item); ok {
			s.resources = append(s.resources, compiled)
		}
	}
}

// resourcePattern compiles a resource; an ARN that breaks off is filled up with
// wildcards, as IAM does.
func (p *parser) resourcePattern(n *node) (pattern, bool) {
	text := n.text
	if text != "*" {
		segments := splitARN(text, p.vars)
		if len(segments) < 2 {
			p.fail(resourceRound, "Resource "+text+` must be in ARN format or "*".`, "")
			return pattern{}, false
		}
		given := len(segments)
		for len(segments) < 6 {
			segments = append(segments, "*")
		}
		text = strings.Join(segments, ":")
		if !p.checkARN(n, segments, given) {
			return pattern{}, false
		}
	}
	compiled, err := compile(text, syntax{wildcards: true, variables: p.vars, arn: true}, p.key)
	if err != nil {
		p.form(n, "Resource "+quoted(n.text)+": "+err.Error())
	}
	return compiled, err == nil
}

// splitARN splits at the first five colons that are not within a variable.
func splitARN(text string, vars bool) []string {
	var segments []string
	start, inside := 0, false
	for i := 0; i < len(text) && len(segments) < 5; i++ {
		switch c := text[i]; {
		case vars && strings.HasPrefix(text[i:], "${"):
			inside = true
		case c == '}':
			inside = false
		case c == ':' && !inside:
			segments = append(segments, text[start:i])
			start = i + 1
		}
	}
	return append(segments, text[start:])
}

var partitionPattern = regexp.MustCompile(`^(aws(-[a-z]+)*|[a-z-]*[*?][a-z*?-]*)$`)

// iamPaths are how the resources of IAM begin.
var iamPaths = []string{"user/", "federated-user/", "role/", "group/", "instance-profile/", "mfa/", "server-certificate/",
	"policy/", "sms-mfa/", "saml-provider/", "oidc-provider/", "report/", "access-report/"}

// checkARN checks a resource of given segments, of which there are six now.
func (p *parser) checkARN(n *node, segments []string, given int) bool {
	arn := "arn:" + strings.Join(segments[1:], ":")
	partition, vendor, region, path := segments[1], segments[2], segments[3], segments[5]
	breaksOff := given > 3 && given < 6 && segments[given-1] != "*"
	switch {
	case !partitionPattern.MatchString(partition):
		p.fail(resourceRound, "Partition "+`"`+partition+`" is not valid for resource "`+arn+`".`, "")
	case segments[0] != "arn":
		p.fail(resourceRound, "Resource "+n.text+` must be in ARN format or "*".`, "")
	case vendor == "" || breaksOff:
		p.legacy(n, "Resource "+quoted(n.text)+" lacks parts of an ARN")
	case strings.ContainsAny(vendor, "*?$"):
		p.fail(resourceRound, "Resource vendor must be fully qualified and cannot contain regexes.", quoted(n.text))
	case vendor == "iam" && region != "" && region != "*":
		p.fail(resourceRound, "IAM resource "+n.text+" cannot contain region information.", "")
	case vendor == "iam" && path != "*" && !hasAnyPrefix(path, iamPaths):
		p.fail(resourceRound, `IAM resource path must either be "*" or start with `+strings.Join(iamPaths, ", ")+".", "")
	case vendor == "s3" && region != "" && region != "*" && !strings.HasPrefix(path, "accesspoint/"):
		p.fail(resourceRound, "Resource "+n.text+" can not contain region information.", "")
	default:
		return true
	}
	return false
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// arnPattern is a value of an Arn operator: six parts that are matched one by one.
type arnPattern struct {
	all bool
	// whole is set instead of parts where a variable stands for a whole ARN.
	whole *pattern
	parts []pattern
}

func compileARN(text string, s syntax, keys func(string)) (arnPattern, error) {
	if text == "*" {
		return arnPattern{all: true}, nil
	}
	segments := splitARN(text, s.variables)
	for len(segments) < 6 && segments[len(segments)-1] == "*" {
		segments = append(segments, "*")
	}
	var a arnPattern
	for _, segment := range segments {
		compiled, err := compile(segment, s, keys)
		if err != nil {
			return a, err
		}
		a.parts = append(a.parts, compiled)
	}
	if len(a.parts) == 1 && a.parts[0].shape == varShape {
		a.whole = &a.parts[0]
	}
	return a, nil
}

// match tells whether an ARN matches part by part; what is no ARN never does.
func (a *arnPattern) match(arn string, c *Context) bool {
	if strings.Count(arn, ":") < 5 {
		return false
	}
	switch {
	case a.all:
		return true
	case a.whole != nil:
		return a.whole.match(arn, c)
	case len(a.parts) != 6:
		return false
	}
	for i := range a.parts {
		part, rest, _ := strings.Cut(arn, ":")
		if i == 5 {
			part = arn
		}
		if !a.parts[i].match(part, c) {
			return false
		}
		arn = rest
	}
	return true
}
