package memkv_test

import (
	"testing"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.KV {
		kv := memkv.New()
		t.Cleanup(func() { kv.Close() })
		return kv
	})
}
