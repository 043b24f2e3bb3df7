package etcdkv_test

import (
	"net/url"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
	"longshore.dev/longshore/internal/store/storetest"
)

func openEmbedded(t testing.TB, opts etcdkv.Embedded) *etcdkv.KV {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	kv, err := etcdkv.OpenEmbedded(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

// startCluster runs a separate etcd of one member and returns its endpoint.
func startCluster(t testing.TB, change func(*embed.Config)) (endpoint string, member *embed.Etcd) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name = "separate"
	cfg.Dir = t.TempDir()
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	client := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls = nil
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.BcryptCost = 4 // the least
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if change != nil {
		change(cfg)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-t.Context().Done():
		t.Fatal("the separate member is not ready")
	}
	return e.Clients[0].Addr().String(), e
}

func openRemote(t testing.TB, opts etcdkv.Remote) *etcdkv.KV {
	t.Helper()
	kv, err := etcdkv.OpenRemote(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

func TestEmbeddedContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.KV { return openEmbedded(t, etcdkv.Embedded{}) })
}

func TestRemoteContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.KV {
		endpoint, _ := startCluster(t, nil)
		return openRemote(t, etcdkv.Remote{Endpoints: []string{"http://" + endpoint}, Prefix: "/longshore/one/"})
	})
}
