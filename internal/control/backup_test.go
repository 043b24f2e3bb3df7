package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/seal"
)

func (r *running) logsAPI() *cloudwatchlogs.Client {
	a := r.Access()
	return cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: testRegion, BaseEndpoint: aws.String(r.Endpoint()),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: a.AccessKeyID, SecretAccessKey: a.SecretAccessKey}, nil
		}),
	})
}

// write puts one event into a stream of its own, and returns when that is acknowledged.
func (r *running) write(name string) error {
	api, ctx := r.logsAPI(), context.Background()
	if _, err := api.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name}); err != nil {
		return err
	}
	if _, err := api.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &name, LogStreamName: &name}); err != nil {
		return err
	}
	_, err := api.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: &name, LogStreamName: &name, LogEvents: []types.InputLogEvent{
		{Message: &name, Timestamp: aws.Int64(time.Now().UnixMilli())},
	}})
	return err
}

// written tells whether a stream has its event.
func (r *running) written(name string) error {
	out, err := r.logsAPI().GetLogEvents(context.Background(), &cloudwatchlogs.GetLogEventsInput{LogGroupName: &name, LogStreamName: &name, StartFromHead: aws.Bool(true)})
	if err == nil && (len(out.Events) != 1 || aws.ToString(out.Events[0].Message) != name) {
		err = fmt.Errorf("%d events", len(out.Events))
	}
	return err
}

func (r *running) backup() []byte {
	r.t.Helper()
	var out bytes.Buffer
	if err := r.owner().Backup(context.Background(), &out); err != nil {
		r.t.Fatal(err)
	}
	return out.Bytes()
}

// restored is the configuration of a restore into a directory with a root key.
func restored(t *testing.T, key []byte) Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{DataDir: dir, Region: testRegion, Account: testAccount, Log: slog.New(slog.DiscardHandler)}
}

func (r *running) rootKey() []byte {
	r.t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.data, "root.key"))
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// What was acknowledged before a backup is in it, store and logs together, while
// writes go on; and the server from it is the same.
func TestBackupHoldsWhatWasAcknowledged(t *testing.T) {
	r := serve(t, "off")
	user := r.user("kept")
	if err := r.write("before"); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan int)
	var acknowledged []string
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			name := fmt.Sprintf("during-%d", n)
			if err := r.write(name); err != nil {
				t.Error(err)
			}
			acknowledged = append(acknowledged, name)
		}
	}()
	time.Sleep(50 * time.Millisecond)
	raw := r.backup()
	close(stop)
	<-stopped
	if left, err := os.Stat(copyPath(r.data)); err == nil {
		t.Errorf("%s is left behind", left.Name())
	}
	c := restored(t, r.rootKey())
	m, err := Restore(t.Context(), bytes.NewReader(raw), c)
	if err != nil {
		t.Fatal(err)
	}
	if m.Entries == 0 || time.Since(m.CreatedAt) > time.Minute {
		t.Errorf("manifest %+v", m)
	}
	r.stop()
	again := serve(t, "off", over(c.DataDir, RootKey{}))
	if err := errors.Join(again.signsIn(user), again.written("before")); err != nil {
		t.Errorf("of what was there before, %v", err)
	}
	if again.Access().AccessKeyID != r.Access().AccessKeyID {
		t.Error("the root user has another key")
	}
	// Of what was written meanwhile there is a whole beginning: a group without its
	// stream, or a stream without its event, can only be the last.
	gone := ""
	for _, name := range acknowledged {
		err := again.written(name)
		switch {
		case err != nil && gone == "":
			gone = name
		case err == nil && gone != "":
			t.Fatalf("%s is there, and %s, which was acknowledged before, is not", name, gone)
		}
	}
	t.Logf("%d writes were acknowledged around the backup, of which %s was the first that is not in it", len(acknowledged), gone)
}

func TestRestoreRefuses(t *testing.T) {
	r := serve(t, "off")
	if err := r.write("kept"); err != nil {
		t.Fatal(err)
	}
	raw, key := r.backup(), r.rootKey()
	for name, c := range map[string]struct {
		raw    []byte
		key    []byte
		change func(*Config)
		want   string
	}{
		"a cut-off backup": {raw: raw[:len(raw)-100], want: ErrNoBackup.Error()},
		"another root key": {key: bytes.Repeat([]byte{1}, seal.KeySize), want: "sealed by key " + r.ring.KeyIDs()[0]},
		"no root key":      {key: []byte{}, want: "put the root key that the backup was made with at"},
		"another region":   {change: func(c *Config) { c.Region = "us-west-2" }, want: "give --account and --region"},
		"a server's directory": {change: func(c *Config) {
			if err := os.Mkdir(filepath.Join(c.DataDir, "etcd"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, want: "Move it away first"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.raw == nil {
				c.raw = raw
			}
			if c.key == nil {
				c.key = key
			}
			config := restored(t, c.key)
			if c.change != nil {
				c.change(&config)
			}
			if _, err := Restore(t.Context(), bytes.NewReader(c.raw), config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// A restore that was cut off is no server; it can be repeated.
func TestRestoreThatWasCutOffIsRepeated(t *testing.T) {
	r := serve(t, "off")
	if err := r.write("kept"); err != nil {
		t.Fatal(err)
	}
	raw := r.backup()
	c := restored(t, r.rootKey())
	if _, err := Restore(t.Context(), bytes.NewReader(raw[:len(raw)*9/10]), c); !errors.Is(err, ErrNoBackup) {
		t.Fatal(err)
	}
	open := c
	open.Listen = "127.0.0.1:0"
	if _, err := Open(t.Context(), open); err == nil || !strings.Contains(err.Error(), "did not come to its end") {
		t.Errorf("a server starts over half a restore: %v", err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(raw), c); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := serve(t, "off", over(c.DataDir, RootKey{})).written("kept"); err != nil {
		t.Error(err)
	}
}

func TestBackupIsTheOwnersAlone(t *testing.T) {
	r := serve(t, "off")
	user := r.user("somebody")
	a := r.Access()
	a.AccessKeyID, a.SecretAccessKey = user.ID, user.Secret
	client, err := NewClient(a)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := client.Backup(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") || out.Len() > 0 {
		t.Errorf("a user gets %d bytes, %v", out.Len(), err)
	}
	// Of two at once one is told to wait.
	r.backingUp.Lock()
	err = r.owner().Backup(t.Context(), io.Discard)
	r.backingUp.Unlock()
	if err == nil || !strings.Contains(err.Error(), "ConflictException") {
		t.Errorf("a second backup: %v", err)
	}
}
