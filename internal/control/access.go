package control

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"longshore.dev/longshore/internal/atomicfile"
	"longshore.dev/longshore/internal/seal"
)

// Access is how this machine's owner reaches a server: what `longshore env`
// prints. It is kept sealed in the data directory.
type Access struct {
	Endpoint        string `json:"endpoint"`
	Region          string `json:"region"`
	Account         string `json:"account"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	// CAFile holds the certificate of the server's authority; empty when it has none.
	CAFile string `json:"caFile,omitempty"`
}

const accessContext = "control/access"

func accessPath(dataDir string) string { return filepath.Join(dataDir, "access.sealed") }

func writeAccess(dataDir string, sealer seal.Sealing, a Access) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	sealed, err := sealer.Seal(accessContext, raw)
	if err != nil {
		return fmt.Errorf("seal the access file: %w", err)
	}
	return atomicfile.Write(accessPath(dataDir), sealed)
}

// ReadAccess opens what the server of a data directory last wrote, with its root key.
func ReadAccess(dataDir string, key RootKey) (Access, error) {
	sealed, err := os.ReadFile(accessPath(dataDir))
	if missing(err) {
		return Access{}, fmt.Errorf("%s holds no Longshore server: start one with `longshore up --data %s`, or name its directory with --data", dataDir, dataDir)
	}
	if err != nil {
		return Access{}, fmt.Errorf("read the access file: %w", err)
	}
	ring, err := key.ring(dataDir)
	if err != nil {
		return Access{}, fmt.Errorf("open the access file: %w", err)
	}
	raw, err := ring.Open(accessContext, sealed)
	if err != nil {
		return Access{}, fmt.Errorf("open the access file: %w", err)
	}
	var a Access
	if err := json.Unmarshal(raw, &a); err != nil {
		return Access{}, fmt.Errorf("read the access file: %w", err)
	}
	return a, nil
}
