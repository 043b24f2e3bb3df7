package iam

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"longshore.dev/longshore/internal/policy"
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
}

func (h *Holder) hasPolicies() bool {
	return len(h.Policies.Identity) > 0 || len(h.Policies.Session) > 0 || h.Policies.Boundary != nil || h.Policies.Resource != nil
}

// errNoHolder is the answer for a principal that was deleted while its call ran.
var errNoHolder = errors.New("the principal does not exist any more")

func rootHolder(p wire.Principal) *Holder {
	return &Holder{
		Principal: policy.Principal{Kind: policy.RootPrincipal, Account: p.AccountID, ARN: p.ARN},
		Type:      "Account", UserID: p.UserID,
	}
}

// Holder implements Holders.
func (s *Service) Holder(p wire.Principal) (*Holder, error) {
	if p.Kind != wire.PrincipalUser {
		return nil, fmt.Errorf("nobody knows the policies of a principal of the kind %q", p.Kind)
	}
	r, sc := s.snapshot(), accountScope(p.AccountID)
	u := s.users.find(r, sc, p.UserID)
	if u == nil {
		return nil, errNoHolder
	}
	h := &Holder{
		Principal: policy.Principal{Account: p.AccountID, ARN: p.ARN, ID: p.UserID},
		Type:      "User", Name: u.Name, UserID: p.UserID, Tags: u.Tags,
	}
	return h, s.compile(h, s.policiesOf(r, sc, s.users, u))
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

// documents keeps identity policies parsed, by their texts.
type documents struct {
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
	d, err := policy.Parse([]byte(text), policy.Identity)
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
	c.Set("aws:PrincipalArn", h.principalARN())
	c.Set("aws:PrincipalAccount", h.Principal.Account)
	c.Set("aws:PrincipalType", h.Type)
	c.Set("aws:PrincipalIsAWSService", "false")
	c.Set("aws:userid", h.UserID)
	setSome(c, "aws:username", h.Name)
	c.Set("aws:RequestedRegion", call.Region)
	c.Set("aws:CurrentTime", call.Time.UTC().Format(time.RFC3339))
	c.Set("aws:EpochTime", strconv.FormatInt(call.Time.Unix(), 10))
	c.Set("aws:SecureTransport", strconv.FormatBool(call.Secure))
	c.Set("aws:ViaAWSService", strconv.FormatBool(len(call.Via) > 0))
	c.Set("aws:CalledVia", call.Via...)
	if n := len(call.Via); n > 0 {
		c.Set("aws:CalledViaFirst", call.Via[0])
		c.Set("aws:CalledViaLast", call.Via[n-1])
	}
	setSome(c, "aws:SourceIp", call.SourceIP)
	setSome(c, "aws:UserAgent", call.UserAgent)
	tags := map[string][]string{}
	for k, v := range h.Tags {
		tags["aws:PrincipalTag/"+k] = []string{v}
	}
	c.Merge(tags)
	c.Merge(req.Conditions)
	return c
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
