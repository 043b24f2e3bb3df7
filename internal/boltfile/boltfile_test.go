package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

var options = &bolt.Options{Timeout: 100 * time.Millisecond, NoFreelistSync: true}

// fill makes a database with branches, overflowing values, small and large buckets.
func fill(t testing.TB, path string) {
	t.Helper()
	db, err := Open(path, options)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		err := db.Update(func(tx *bolt.Tx) error {
			for _, name := range []string{"large", "small"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				for i := range map[string]int{"large": 400, "small": 3}[name] {
					if err := b.Put(fmt.Appendf(nil, "key %04d", i+round*100), bytes.Repeat([]byte{'v'}, 20+i%7*i*3)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWholeDatabaseIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	fill(t, path)
	db, err := Open(path, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, options); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	n := 0
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("large")).ForEach(func(_, _ []byte) error { n++; return nil })
	})
	if err != nil || n != 600 {
		t.Errorf("%d keys, %v", n, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsReported(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	fill(t, whole)
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	garbage := bytes.Repeat([]byte("garbage "), len(data)/8)
	for name, bad := range map[string][]byte{
		"garbage": garbage, "cut in half": data[:len(data)/2], "one byte": data[:1],
		"torn":         append(append([]byte{}, data[:8192]...), garbage[8192:]...),
		"zeroed pages": append(append([]byte{}, data[:8192]...), make([]byte, len(data)-8192)...),
		"no beginning": append(make([]byte, 8192), data[8192:]...),
	} {
		path := filepath.Join(dir, "bad")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, options); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, bad) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	// A torn first page is what the second one is for.
	path := filepath.Join(dir, "bad")
	if err := os.WriteFile(path, append(make([]byte, 4096), data[4096:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, options)
	if err != nil {
		t.Fatalf("with one good meta page: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNoDamageIsFatal changes databases at random: each is refused, or can be read
// and written.
func TestNoDamageIsFatal(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	fill(t, whole)
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 120 {
		bad := append([]byte{}, data...)
		for range 1 + random.IntN(3) {
			damage(random, bad)
		}
		path := filepath.Join(dir, "bad")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(path, options)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			refused++
			continue
		}
		_ = db.Update(func(tx *bolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
				_ = b.Put([]byte("key 0200x"), []byte("new"))
				return b.ForEach(func(_, _ []byte) error { return nil })
			})
		})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 20 {
		t.Errorf("only %d of 120 damaged databases were refused", refused)
	}
}

// damage does one of the things that disks do.
func damage(random *rand.Rand, data []byte) {
	pages := len(data) / 4096
	page := data[random.IntN(pages)*4096:][:4096]
	switch random.IntN(4) {
	case 0: // a lost write: another page's content
		copy(page, data[random.IntN(pages)*4096:][:4096])
	case 1: // a torn write
		clear(page[random.IntN(8)*512:])
	case 2: // flipped bits in what leads elsewhere
		page[random.IntN(64)] ^= 1 << random.IntN(8)
	default:
		page[random.IntN(4096)] ^= byte(random.IntN(256))
	}
}
