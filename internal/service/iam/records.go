package iam

import (
	"strings"
	"time"

	"longshore.dev/longshore/internal/store"
)

// identity is a stored user, group or role. Its id is its name in lower case, as
// names differ by more than case; what others keep of it is its ID, which is never
// used again and survives a renaming.
type identity struct {
	Name      string            `json:"name"`
	Path      string            `json:"path"`
	ID        string            `json:"id"`
	CreatedAt time.Time         `json:"createdAt"`
	Tags      map[string]string `json:"tags,omitempty"`
	// Inline holds the documents of the embedded policies by name, Attached the
	// ARNs of the managed ones, and Boundary the ARN of the permissions boundary.
	Inline   map[string]string `json:"inline,omitempty"`
	Attached []string          `json:"attached,omitempty"`
	Boundary string            `json:"boundary,omitempty"`

	// Groups holds the IDs of the groups that a user is in.
	Groups []string `json:"groups,omitempty"`

	// Trust is a role's trust policy; a session lasts MaxSessionSeconds at most. The
	// policy names users and roles by ID, and TrustedIn has the account of each.
	Trust             string            `json:"trust,omitempty"`
	TrustedIn         map[string]string `json:"trustedIn,omitempty"`
	Description       string            `json:"description,omitempty"`
	MaxSessionSeconds int32             `json:"maxSessionSeconds,omitempty"`
}

// managedPolicy is a stored customer managed policy; its id is its name in lower case.
type managedPolicy struct {
	Name        string            `json:"name"`
	Path        string            `json:"path"`
	ID          string            `json:"id"`
	Description string            `json:"description,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Versions are in the order in which they were made; numbers are not used again.
	Versions []version `json:"versions"`
	Default  int       `json:"default"`
	Last     int       `json:"last"`
}

type version struct {
	Number    int       `json:"number"`
	Document  string    `json:"document"`
	CreatedAt time.Time `json:"createdAt"`
}

// profile is a stored instance profile; its id is its name in lower case.
type profile struct {
	Name      string            `json:"name"`
	Path      string            `json:"path"`
	ID        string            `json:"id"`
	CreatedAt time.Time         `json:"createdAt"`
	Tags      map[string]string `json:"tags,omitempty"`
	// Role is the ID of the role that it holds, empty for none.
	Role string `json:"role,omitempty"`
}

// tables of IAM's own nouns. IAM is global: their scope is an account, without a
// region.
type tables struct {
	users, groups, roles *book

	policies       *store.Table[managedPolicy]
	profiles       *store.Table[profile]
	profilesByRole *store.Index[profile]
	accounts       *store.Table[accountRecord]
	aliases        *store.Table[alias]
	deletions      *store.Table[deletion]
	certificates   *store.Table[certificate]
}

func declareTables(db *store.DB) tables {
	t := tables{
		users:        newBook(db, "user", "User", "AIDA", "iam.users"),
		groups:       newBook(db, "group", "Group", "AGPA", "iam.groups"),
		roles:        newBook(db, "role", "Role", "AROA", "iam.roles"),
		policies:     store.NewTable[managedPolicy](db, "iam.policies"),
		profiles:     store.NewTable[profile](db, "iam.instanceprofiles"),
		accounts:     store.NewTable[accountRecord](db, "iam.accounts"),
		aliases:      store.NewTable[alias](db, "iam.aliases"),
		deletions:    store.NewTable[deletion](db, "iam.roledeletions"),
		certificates: store.NewTable[certificate](db, "iam.servercertificates"),
	}
	t.profilesByRole = store.NewIndex(t.profiles, "role", func(_ store.Scope, _ string, p *profile) []string { return some(p.Role) })
	return t
}

// book is the table of one kind of identity.
type book struct {
	noun, title string // "user", "User"
	prefix      string // of its IDs
	table       *store.Table[identity]
	byID        *store.Index[identity]
	byPolicy    *store.Index[identity] // Attached
	byBoundary  *store.Index[identity]
	byGroup     *store.Index[identity]
}

func newBook(db *store.DB, noun, title, prefix, name string) *book {
	b := &book{noun: noun, title: title, prefix: prefix, table: store.NewTable[identity](db, name)}
	b.byID = store.NewIndex(b.table, "id", func(_ store.Scope, _ string, i *identity) []string { return []string{i.ID} })
	b.byPolicy = store.NewIndex(b.table, "policy", func(_ store.Scope, _ string, i *identity) []string { return i.Attached })
	b.byBoundary = store.NewIndex(b.table, "boundary", func(_ store.Scope, _ string, i *identity) []string { return some(i.Boundary) })
	b.byGroup = store.NewIndex(b.table, "group", func(_ store.Scope, _ string, i *identity) []string { return i.Groups })
	return b
}

// some is a list of s, if it is not empty.
func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// key is the id under which what has this name is stored.
func key(name string) string { return strings.ToLower(name) }

// accountScope is the scope of an account's IAM.
func accountScope(account string) store.Scope { return store.Scope{Account: account} }

func arnOf(account, kind, path, name string) string {
	return "arn:aws:iam::" + account + ":" + kind + path + name
}

func (b *book) arn(account string, i *identity) string { return arnOf(account, b.noun, i.Path, i.Name) }

func (p *profile) arn(account string) string {
	return arnOf(account, "instance-profile", p.Path, p.Name)
}

func (p *managedPolicy) arn(account string) string { return arnOf(account, "policy", p.Path, p.Name) }

// version returns a version by its number, nil if there is none.
func (p *managedPolicy) version(number int) *version {
	for i := range p.Versions {
		if p.Versions[i].Number == number {
			return &p.Versions[i]
		}
	}
	return nil
}
