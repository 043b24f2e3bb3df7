package iam

import (
	"crypto/sha256"
	_ "embed" // managed.json
	"encoding/base32"
	"encoding/json"
	"fmt"
	"time"
)

// awsPolicyPrefix begins the ARNs of the policies that AWS manages.
const awsPolicyPrefix = "arn:aws:iam::aws:policy/"

//go:embed managed.json
var managedText []byte

// awsPoliciesFrom is when the policies that AWS manages came to be, here.
var awsPoliciesFrom = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// loadManaged reads the policies that AWS manages, by ARN. Their documents are our
// own, for the actions of the services that we have.
func loadManaged() map[string]*managedPolicy {
	var list []struct {
		Name, Path, Description string
		Document                json.RawMessage
	}
	if err := json.Unmarshal(managedText, &list); err != nil {
		panic(fmt.Sprintf("iam: managed.json: %v", err))
	}
	byARN := make(map[string]*managedPolicy, len(list))
	for _, m := range list {
		if m.Path == "" {
			m.Path = "/"
		}
		p := &managedPolicy{
			Name: m.Name, Path: m.Path, Description: m.Description, CreatedAt: awsPoliciesFrom, UpdatedAt: awsPoliciesFrom,
			Versions: []version{{Number: 1, Document: string(m.Document), CreatedAt: awsPoliciesFrom}}, Default: 1, Last: 1,
		}
		sum := sha256.Sum256([]byte(p.arn("aws")))
		p.ID = "ANPA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
		byARN[p.arn("aws")] = p
	}
	return byARN
}
