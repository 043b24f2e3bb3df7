package test

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"go.etcd.io/etcd/server/v3/embed"
)

// member is an etcd of its own, which can go away and come back.
type member struct {
	t      *testing.T
	config *embed.Config
	etcd   *embed.Etcd
}

func startMember(t *testing.T) *member {
	t.Helper()
	m := &member{t: t, config: embed.NewConfig()}
	client, peer := url.URL{Scheme: "http", Host: freeAddress(t)}, url.URL{Scheme: "http", Host: freeAddress(t)}
	m.config.Dir, m.config.LogLevel, m.config.LogOutputs = t.TempDir(), "fatal", []string{os.DevNull}
	m.config.ListenClientUrls, m.config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	m.config.ListenPeerUrls, m.config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	m.config.InitialCluster = m.config.InitialClusterFromName(m.config.Name)
	m.back()
	t.Cleanup(func() { m.etcd.Close() })
	return m
}

func (m *member) endpoint() string { return m.config.ListenClientUrls[0].String() }

func (m *member) away() { m.etcd.Close() }

func (m *member) back() {
	m.t.Helper()
	etcd, err := embed.StartEtcd(m.config)
	if err != nil {
		m.t.Fatal(err)
	}
	m.etcd = etcd
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(time.Minute):
		m.t.Fatal("etcd is not ready after a minute")
	}
}

// TestStateInAnEtcdOfItsOwn keeps the state in an etcd that is not ours: it
// survives our restart, and we survive its absence.
func TestStateInAnEtcdOfItsOwn(t *testing.T) {
	t.Parallel() // it mostly waits
	m := startMember(t)
	l := up(t, "--no-sample", "--etcd-endpoints", m.endpoint())
	ctx := context.Background()
	create := func(name string) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		_, err := l.ecs().CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &name}, once)
		return err
	}
	if err := create("kept"); err != nil {
		t.Fatal(err)
	}
	l.defineOne("outside", 10, 32)
	running := *l.runTasks(&ecs.RunTaskInput{TaskDefinition: aws.String("outside")})[0].TaskArn
	l.awaitStatus("default", running, "RUNNING")

	if err := l.signal(syscall.SIGKILL); err == nil {
		t.Fatal("the server ended well on SIGKILL")
	}
	l.start()
	if _, err := os.Stat(filepath.Join(l.data, "etcd")); err == nil {
		t.Error("there is an embedded member beside the etcd that was given")
	}
	kept, err := l.ecs().DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{"kept"}})
	if err != nil || len(kept.Clusters) != 1 || aws.ToString(kept.Clusters[0].Status) != "ACTIVE" {
		t.Fatalf("after a restart: %+v %v", kept, err)
	}
	l.awaitStatus("default", running, "RUNNING")

	m.away()
	began := time.Now()
	err = create("lost")
	if code(err) != "ServerException" && code(err) != "ServiceUnavailable" {
		t.Errorf("a write without etcd is answered with %v, want an error that says to try again", err)
	}
	took := time.Since(began)
	if took > 25*time.Second {
		t.Errorf("a write without etcd was answered only after %s", took)
	}
	if l.exitedAlready() {
		t.Fatalf("the server ended when etcd went away:\n%s", l.output)
	}
	m.back()
	l.eventually("writes succeed again", func() error { return create("back") })
	if _, err := l.ecs().StopTask(ctx, &ecs.StopTaskInput{Task: &running}); err != nil {
		t.Fatal(err)
	}
	l.awaitStopped("default", []string{running})
}

func (l *longshore) exitedAlready() bool {
	connection, err := net.Dial("tcp", l.listen)
	if err != nil {
		return true
	}
	connection.Close()
	return false
}
