package etcdkv_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
)

// benchDB is a DB on embedded etcd with a table and an index.
func benchDB(b *testing.B) (*store.DB, *store.Table[record], *store.Index[record]) {
	db := store.New(openEmbedded(b, etcdkv.Embedded{}), store.Options{})
	table := store.NewTable[record](db, "records")
	index := store.NewIndex(table, "n", func(_ store.Scope, _ string, r *record) []string { return []string{fmt.Sprint(r.N % 100)} })
	if err := db.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db, table, index
}

func benchPut(b *testing.B, db *store.DB, table *store.Table[record], id string, n int) {
	if err := db.Update(b.Context(), func(tx *store.Tx) error {
		table.Get(tx, store.Scope{}, id)
		table.Put(tx, store.Scope{}, id, &record{n})
		return nil
	}); err != nil {
		b.Error(err)
	}
}

func BenchmarkUpdateSequential(b *testing.B) {
	db, table, _ := benchDB(b)
	for i := 0; b.Loop(); i++ {
		benchPut(b, db, table, fmt.Sprint(i%1000), i)
	}
}

func BenchmarkUpdate64Writers(b *testing.B) {
	db, table, _ := benchDB(b)
	var n atomic.Int64
	b.SetParallelism(32) // times GOMAXPROCS
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(n.Add(1))
			benchPut(b, db, table, fmt.Sprint(i%10000), i)
		}
	})
}

func BenchmarkUpdateOneRecord16Writers(b *testing.B) {
	db, table, _ := benchDB(b)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			benchPut(b, db, table, "hot", 1)
		}
	})
}

func BenchmarkSnapshotGet(b *testing.B) {
	db, table, _ := benchDB(b)
	fillTable(b, db, table)
	for i := 0; b.Loop(); i++ {
		if _, ok := table.Get(db.Snapshot(), store.Scope{}, fmt.Sprintf("%05d", i%10000)); !ok {
			b.Fatal("missing")
		}
	}
}

func BenchmarkSnapshotIndexOf100(b *testing.B) {
	db, table, index := benchDB(b)
	fillTable(b, db, table)
	for b.Loop() {
		n := 0
		for range index.List(db.Snapshot(), store.Scope{}, "7") {
			n++
		}
		if n != 100 {
			b.Fatalf("%d records", n)
		}
	}
}

func fillTable(b *testing.B, db *store.DB, table *store.Table[record]) {
	for from := 0; from < 10000; from += 1000 {
		if err := db.Update(b.Context(), func(tx *store.Tx) error {
			for i := from; i < from+1000; i++ {
				table.Put(tx, store.Scope{}, fmt.Sprintf("%05d", i), &record{i})
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is a start on an existing data directory until it serves.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		kv, err := etcdkv.OpenEmbedded(b.Context(), etcdkv.Embedded{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		kv.Close()
		b.StartTimer()
	}
}
