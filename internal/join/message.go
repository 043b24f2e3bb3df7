package join

import (
	"net/netip"
	"regexp"
)

// Path is where a server takes requests to join, by POST.
const Path = "/_longshore/join"

// MaxBody bounds a request and an answer, in bytes.
const MaxBody = 16 << 10

// attemptPattern is what an attempt's id looks like: 32 random bytes in hex.
var attemptPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Request asks to join.
type Request struct {
	Token string `json:"token"`
	// Attempt is a secret that the node draws once, keeps, and sends with each
	// repetition: a repetition gets the same answer, and uses the token no second
	// time. Whoever has only the token cannot repeat another's attempt.
	Attempt string `json:"attempt"`
}

// Valid tells whether the attempt has its form.
func (r Request) Valid() bool { return attemptPattern.MatchString(r.Attempt) }

// Answer is what a node is from then on. The access key is a secret.
type Answer struct {
	NodeID          string `json:"nodeId,omitempty"`
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	Account         string `json:"account,omitempty"`
	Region          string `json:"region,omitempty"`
	// Cluster is the only one that the node may register in; empty: any.
	Cluster string `json:"cluster,omitempty"`
	// Fargate says that the node may take FARGATE tasks.
	Fargate bool `json:"fargate,omitempty"`
	// Subnets are those that awsvpc tasks have their addresses in.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Error says why there is none of this.
	Error string `json:"error,omitempty"`
}
