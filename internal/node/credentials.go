package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"longshore.dev/longshore/internal/atomicfile"
	"longshore.dev/longshore/internal/seal"
)

// Credentials are the node's own.
type Credentials struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

const credentialsContext = "node/credentials"

// SavedCredentials returns the credentials that the node was given when it
// joined; false when it has not joined yet. They are sealed on disk.
func SavedCredentials(dataDir string) (Credentials, bool, error) {
	raw, err := os.ReadFile(credentialsPath(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return Credentials{}, false, nil
	}
	if err != nil {
		return Credentials{}, false, fmt.Errorf("read the node's credentials: %w", err)
	}
	sealer, err := seal.OpenFile(filepath.Join(dataDir, "root.key"))
	if err != nil {
		return Credentials{}, false, err
	}
	plain, err := sealer.Open(credentialsContext, raw)
	if err != nil {
		return Credentials{}, false, fmt.Errorf("open the node's credentials: %w", err)
	}
	var key Credentials
	if err := json.Unmarshal(plain, &key); err != nil {
		return Credentials{}, false, fmt.Errorf("read the node's credentials: %w", err)
	}
	return key, true, nil
}

// SaveCredentials keeps the node's credentials, sealed.
func SaveCredentials(dataDir string, key Credentials) error {
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
