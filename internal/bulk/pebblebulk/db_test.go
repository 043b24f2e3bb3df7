package pebblebulk

import (
	"testing"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/bulk/bulktest"
)

func open(t testing.TB, dir string) *DB {
	t.Helper()
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

func TestContracts(t *testing.T) {
	bulktest.Logs(t, func(t testing.TB) bulk.Logs { return open(t, t.TempDir()).Logs() })
	bulktest.History(t, func(t testing.TB) bulk.History { return open(t, t.TempDir()).History() })
}
