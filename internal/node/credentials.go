package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"longshore.dev/longshore/internal/atomicfile"
	"longshore.dev/longshore/internal/seal"
)

// Credentials are the node's own, with what the server said that it is.
type Credentials struct {
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	NodeID          string `json:"nodeId,omitempty"`
	Region          string `json:"region,omitempty"`
	// Cluster is the only one that the node may register in; empty: any.
	Cluster string `json:"cluster,omitempty"`
	Fargate bool   `json:"fargate,omitempty"`
	// Subnets are those that awsvpc tasks have their addresses in.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// CA is the authority that vouches for the server, in PEM; empty: the machine's
	// own roots do, or the server has no TLS.
	CA string `json:"ca,omitempty"`
	// Attempt is the secret of the attempt to join; only before that succeeded.
	Attempt string `json:"attempt,omitempty"`
}

const credentialsContext = "node/credentials"

// String hides the secret from whatever prints credentials.
func (c Credentials) String() string { return "credentials of node " + c.NodeID }

// GoString hides it from %#v.
func (c Credentials) GoString() string { return c.String() }

// readCredentials returns what the node has kept, empty when there is nothing. It
// is sealed on disk.
func readCredentials(dataDir string) (Credentials, error) {
	raw, err := os.ReadFile(credentialsPath(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return Credentials{}, nil
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("read the node's credentials: %w", err)
	}
	sealer, err := seal.OpenFile(filepath.Join(dataDir, "root.key"))
	if err != nil {
		return Credentials{}, err
	}
	plain, err := sealer.Open(credentialsContext, raw)
	if err != nil {
		return Credentials{}, fmt.Errorf("open the node's credentials %s: %w: to join as a new node, remove the file", credentialsPath(dataDir), err)
	}
	var key Credentials
	if err := json.Unmarshal(plain, &key); err != nil {
		return Credentials{}, fmt.Errorf("read the node's credentials: %w", err)
	}
	return key, nil
}

// SaveCredentials keeps the node's credentials, sealed.
func SaveCredentials(dataDir string, key Credentials) error {
	if err := os.MkdirAll(filepath.Dir(credentialsPath(dataDir)), 0o700); err != nil {
		return fmt.Errorf("make the node's directory: %w", err)
	}
	sealer, err := seal.OpenFile(filepath.Join(dataDir, "root.key"))
	if err != nil {
		return err
	}
	plain, err := json.Marshal(key)
	if err != nil {
		return err
	}
	sealed, err := sealer.Seal(credentialsContext, plain)
	if err != nil {
		return fmt.Errorf("seal the node's credentials: %w", err)
	}
	return atomicfile.Write(credentialsPath(dataDir), sealed)
}

func credentialsPath(dataDir string) string {
	return filepath.Join(dataDir, "node", "credentials.sealed")
}

// CredentialsFile is where a node with this data directory keeps its credentials.
func CredentialsFile(dataDir string) string { return credentialsPath(dataDir) }
