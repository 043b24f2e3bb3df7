package iam

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Holder is a principal as authorisation sees it.
type Holder struct {
	Principal policy.Principal
	Policies  policy.Policies
	// Type is aws:PrincipalType, Name aws:username, which only users have.
	Type, Name string
	// UserID is aws:userid.
	UserID string
	Tags   map[string]string
	// Session is that of temporary credentials.
	Session *wire.Session
}

func (h *Holder) hasPolicies() bool {
	return len(h.Policies.Identity) > 0 || len(h.Policies.Session) > 0 || h.Policies.Boundary != nil
}

// errNoHolder is the answer for a principal that was deleted while its call ran.
var errNoHolder = errors.New("the principal does not exist any more")

func rootHolder(p wire.Principal) *Holder {
	return &Holder{
		Principal: policy.Principal{Kind: policy.RootPrincipal, Account: p.AccountID, ARN: p.ARN},
		Type:      "Account", UserID: p.UserID, Session: p.Session,
	}
}

// serviceHolder is a service: it has no policies of its own, and belongs to no account.
func serviceHolder(p wire.Principal) *Holder {
	return &Holder{Principal: policy.Principal{Kind: policy.ServicePrincipal, ARN: p.ARN}}
}

// Holder implements Holders.
func (s *Service) Holder(p wire.Principal) (*Holder, error) {
	r, sc := s.snapshot(), accountScope(p.AccountID)
	switch p.Kind {
	case wire.PrincipalRole:
		return s.roleHolder(r, sc, p)
	case wire.PrincipalUser:
	default:
		return nil, fmt.Errorf("nobody knows the policies of a principal of the kind %q", p.Kind)
	}
	u := s.users.find(r, sc, p.UserID)
	if u == nil {
		return nil, errNoHolder
	}
	h := &Holder{
		Principal: policy.Principal{Account: p.AccountID, ARN: p.ARN, ID: p.UserID},
		Type:      "User", Name: u.Name, UserID: p.UserID, Tags: u.Tags, Session: p.Session,
	}
	return h, s.compile(h, s.policiesOf(r, sc, s.users, u))
}

// roleHolder is a role's session: it has the role's policies and those of its own.
func (s *Service) roleHolder(r store.Reader, sc store.Scope, p wire.Principal) (*Holder, error) {
	role := s.roles.find(r, sc, p.Session.RoleID)
	if role == nil {
		return nil, errNoHolder
	}
	h := &Holder{
		Principal: policy.Principal{Account: p.AccountID, ARN: p.ARN, ID: p.UserID, Source: s.roles.arn(sc.Account, role), SourceID: role.ID},
		Type:      "AssumedRole", UserID: p.UserID, Tags: overridden(role.Tags, p.Session.Tags), Session: p.Session,
	}
	applied := s.policiesOf(r, sc, s.roles, role)
	if p.Session.Policy != "" {
		applied.Session = append(applied.Session, sourcePolicy{ID: "session policy", Text: p.Session.Policy})
	}
	for _, arn := range p.Session.PolicyARNs {
		// One that was deleted has no document, and allows nothing.
		source, _ := s.managedSource(r, sc, arn)
		applied.Session = append(applied.Session, source)
	}
	return h, s.compile(h, applied)
}

// overridden are a role's tags where the session's do not say otherwise; their keys
// are the same in any case.
func overridden(role, session map[string]string) map[string]string {
	if len(session) == 0 {
		return role
	}
	tags := maps.Clone(session)
	seen := map[string]bool{}
	for k := range session {
		seen[strings.ToLower(k)] = true
	}
	for k, v := range role {
		if !seen[strings.ToLower(k)] {
			tags[k] = v
		}
	}
	return tags
}

// compile fills in a holder's policies. One that cannot be read might deny: then
// nothing is allowed.
func (s *Service) compile(h *Holder, applied *appliedPolicies) error {
	for _, source := range applied.Identity {
		d, err := s.documents.get(source.Text)
		if err != nil {
			return fmt.Errorf("the policy %s cannot be read: %w", source.ID, err)
		}
		h.Policies.Identity = append(h.Policies.Identity, policy.Attached{ID: source.ID, Document: d})
	}
	for _, source := range applied.Session {
		d, err := s.documents.get(source.Text)
		if err != nil {
			return fmt.Errorf("the session policy %s cannot be read: %w", source.ID, err)
		}
		h.Policies.Session = append(h.Policies.Session, policy.Attached{ID: source.ID, Document: d})
	}
	if b := applied.Boundary; b != nil {
		d, err := s.documents.get(b.Text)
		if err != nil {
			return fmt.Errorf("the permissions boundary %s cannot be read: %w", b.ID, err)
		}
		h.Policies.Boundary = &policy.Attached{ID: b.ID, Document: d}
	}
	return nil
}

// maxDocumentBytes bounds the texts of the parsed policies that are kept.
const maxDocumentBytes = 16 << 20

// documents keeps policies of one kind parsed, by their texts.
type documents struct {
	kind   policy.Kind
	mu     sync.RWMutex
	byText map[string]*policy.Document
	bytes  int
}

func (c *documents) get(text string) (*policy.Document, error) {
	c.mu.RLock()
	d := c.byText[text]
	c.mu.RUnlock()
	if d != nil {
		return d, nil
	}
	d, err := policy.Parse([]byte(text), c.kind)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byText == nil || c.bytes+len(text) > maxDocumentBytes {
		c.byText, c.bytes = map[string]*policy.Document{}, 0 // those in use come back
	}
	if c.byText[text] == nil {
		c.byText[text] = d
		c.bytes += len(text)
	}
	return d, nil
}

// conditions are the keys that hold for a call: AWS's global ones, and those that its
// operation states.
func (h *Holder) conditions(req *wire.AuthorizationRequest) *policy.Context {
	call := req.Call
	c := policy.NewContext(24 + len(req.Conditions) + len(h.Tags))
	if h.Principal.Kind == policy.ServicePrincipal {
		h.serviceConditions(c, &call.Principal)
	} else {
		h.identityConditions(c, call)
	}
	c.Set("aws:RequestedRegion", call.Region)
	c.Set("aws:CurrentTime", call.Time.UTC().Format(time.RFC3339))
	c.Set("aws:EpochTime", strconv.FormatInt(call.Time.Unix(), 10))
	c.Set("aws:SecureTransport", strconv.FormatBool(call.Secure))
	setSome(c, "aws:SourceIp", call.SourceIP)
	setSome(c, "aws:UserAgent", call.UserAgent)
	c.Merge(req.Conditions)
	return c
}

// serviceConditions tell which service acts, and for what.
func (h *Holder) serviceConditions(c *policy.Context, p *wire.Principal) {
	c.Set("aws:PrincipalIsAWSService", "true")
	c.Set("aws:PrincipalServiceName", h.Principal.ARN)
	c.Set("aws:PrincipalServiceNamesList", h.Principal.ARN)
	c.Set("aws:ViaAWSService", "false")
	setSome(c, "aws:SourceArn", p.SourceARN)
	setSome(c, "aws:SourceAccount", p.SourceAccount)
}

func (h *Holder) identityConditions(c *policy.Context, call *wire.Call) {
	c.Set("aws:PrincipalArn", h.principalARN())
	c.Set("aws:PrincipalAccount", h.Principal.Account)
	c.Set("aws:PrincipalType", h.Type)
	c.Set("aws:PrincipalIsAWSService", "false")
	c.Set("aws:userid", h.UserID)
	setSome(c, "aws:username", h.Name)
	c.Set("aws:ViaAWSService", strconv.FormatBool(len(call.Via) > 0))
	c.Set("aws:CalledVia", call.Via...)
	if n := len(call.Via); n > 0 {
		c.Set("aws:CalledViaFirst", call.Via[0])
		c.Set("aws:CalledViaLast", call.Via[n-1])
	}
	if h.Session != nil {
		c.Set("aws:TokenIssueTime", h.Session.IssuedAt.UTC().Format(time.RFC3339))
		c.Set("aws:MultiFactorAuthPresent", "false")
		setSome(c, "aws:SourceIdentity", h.Session.SourceIdentity)
	}
	tags := map[string][]string{}
	for k, v := range h.Tags {
		tags["aws:PrincipalTag/"+k] = []string{v}
	}
	c.Merge(tags)
}

// principalARN is aws:PrincipalArn: of a session, its role's.
func (h *Holder) principalARN() string {
	if h.Principal.Source != "" {
		return h.Principal.Source
	}
	return h.Principal.ARN
}

func setSome(c *policy.Context, key, value string) {
	if value != "" {
		c.Set(key, value)
	}
}
