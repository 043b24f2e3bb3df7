package agent

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestConcurrentWritesAreOnDiskWhenTheyReturn(t *testing.T) {
	dir := t.TempDir()
	d, err := openDB(dir)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 200 {
		writers.Go(func() {
			if err := d.putTask(&record{ID: fmt.Sprint("t", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if _, err := openDB(dir); err == nil {
		t.Fatal("two agents hold the same records")
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := d.putTask(&record{ID: "late"}); !errors.Is(err, errDBClosed) {
		t.Fatalf("a write after close: %v", err)
	}
	if d, err = openDB(dir); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if tasks, _, err := d.tasks(); err != nil || len(tasks) != 200 {
		t.Fatalf("%d tasks on disk, %v; want 200", len(tasks), err)
	}
}
