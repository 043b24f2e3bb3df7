package edge

import (
	"os"
	"path/filepath"
	"testing"
)

// The names of load balancers have a block of their own in the hosts file; the rest stays.
func TestNamesAreInTheHostsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	const rest = "127.0.0.1 localhost\n# longshore other begin\n198.18.0.9 z\n# longshore other end\n::1 localhost"
	if err := os.WriteFile(path, []byte(rest), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names map[string]string
		want  string
	}{
		{nil, rest},
		{map[string]string{"b.internal": "198.18.0.2", "a.internal": "198.18.0.1"}, rest + "\n# longshore mine begin\n198.18.0.1 a.internal\n198.18.0.2 b.internal\n# longshore mine end\n"},
		{map[string]string{"b.internal": "198.18.0.2"}, rest + "\n# longshore mine begin\n198.18.0.2 b.internal\n# longshore mine end\n"},
		{nil, rest + "\n"},
	} {
		if err := setHosts(path, "mine", c.names); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
			t.Errorf("with %v it has %q, want %q (%v)", c.names, got, c.want, err)
		}
	}
	if err := setHosts(path+"none", "mine", nil); err == nil {
		t.Error("a file that is not there is no error")
	}
}
