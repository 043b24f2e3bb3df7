package etcdkv

import (
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"longshore.dev/longshore/internal/store"
)

// limits are the bounds that the etcd server enforces on one request.
type limits struct {
	txnOps       int // its --max-txn-ops
	requestBytes int // its --max-request-bytes
}

// requestOverhead is what a request needs beside keys and values, for itself
// and for each op and guard: a generous upper bound.
const (
	requestOverhead = 4 << 10
	opOverhead      = 64
)

func requestSize(txn store.Txn, prefix int) int {
	return txn.Size() + (len(txn.Ops)+len(txn.Guards))*(opOverhead+prefix)
}

// check says whether the server would accept the transaction on its own.
func (l limits) check(txn store.Txn, prefix int) error {
	if err := txn.Validate(); err != nil {
		return err
	}
	if n := max(len(txn.Ops), len(txn.Guards)); n > l.txnOps {
		return fmt.Errorf("%w: a transaction of %d operations, this etcd takes %d: raise its --max-txn-ops", store.ErrTooLarge, n, l.txnOps)
	}
	if n := requestSize(txn, prefix) + requestOverhead; n > l.requestBytes {
		return fmt.Errorf("%w: a transaction of %d bytes, this etcd takes %d: raise its --max-request-bytes", store.ErrTooLarge, n, l.requestBytes)
	}
	return nil
}

// split cuts a group into rounds of transactions that can be evaluated
// together: none touches a key that another one of its round writes. A
// transaction is never before an earlier one that touches its keys. The rounds
// are returned as lengths, since order is kept.
func (l limits) split(txns []store.Txn, prefix int) []int {
	var rounds []int
	var r round
	for _, txn := range txns {
		size := requestSize(txn, prefix)
		if r.length > 0 && !r.takes(txn, size, l) {
			rounds = append(rounds, r.length)
			r = round{}
		}
		r.add(txn, size)
	}
	if r.length > 0 {
		rounds = append(rounds, r.length)
	}
	return rounds
}

type round struct {
	length int
	size   int
	widest int // most ops or guards of a transaction
	writes map[string]struct{}
}

func (r *round) takes(txn store.Txn, size int, l limits) bool {
	widest := max(r.widest, len(txn.Ops), len(txn.Guards))
	if r.length+1+widest > l.txnOps || r.size+size+requestOverhead > l.requestBytes {
		return false
	}
	for _, g := range txn.Guards {
		if _, ok := r.writes[g.Key]; ok {
			return false
		}
	}
	for _, op := range txn.Ops {
		if _, ok := r.writes[op.Key]; ok {
			return false
		}
	}
	return true
}

func (r *round) add(txn store.Txn, size int) {
	r.length++
	r.size += size
	r.widest = max(r.widest, len(txn.Ops), len(txn.Guards))
	if r.writes == nil {
		r.writes = make(map[string]struct{})
	}
	for _, op := range txn.Ops {
		r.writes[op.Key] = struct{}{}
	}
}

func compares(prefix string, guards []store.Guard) []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, len(guards))
	for i, g := range guards {
		cmps[i] = clientv3.Compare(clientv3.ModRevision(prefix+g.Key), "=", g.Revision)
	}
	return cmps
}

func ops(prefix string, from []store.Op) []clientv3.Op {
	list := make([]clientv3.Op, len(from))
	for i, op := range from {
		if op.Delete {
			list[i] = clientv3.OpDelete(prefix + op.Key)
		} else {
			list[i] = clientv3.OpPut(prefix+op.Key, string(op.Value))
		}
	}
	return list
}
