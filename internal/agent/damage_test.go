package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.etcd.io/bbolt"

	"longshore.dev/longshore/internal/acs"
)

// wanting wants these tasks to run.
func wanting(ids ...string) *acs.Manifest {
	m := &acs.Manifest{}
	for _, id := range ids {
		m.Tasks = append(m.Tasks, acs.ManifestTask{TaskARN: taskOf(id).ARN, DesiredStatus: acs.DesiredRunning})
	}
	return m
}

// missing takes a manifest, and waits for nothing.
func (m *machine) missing(manifest *acs.Manifest) {
	_, missing := m.engine.compare(manifest)
	m.engine.reportMissing(missing)
}

// TestDamagedRecordLosesOneTask: the others go on, and the control plane hears of
// the one.
func TestDamagedRecordLosesOneTask(t *testing.T) {
	for name, bad := range map[string]string{
		"cut": `{"id":"t1","task":{"arn":`, "another's": `{"id":"t2"}`, "empty": "", "without its containers": `{"id":"t1","task":{"containers":[{"name":"app"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for _, id := range []string{"t1", "t2"} {
				m.accept(taskOf(id, "sleep", "100"))
				m.await(id, "RUNNING")
			}
			m.until("what was told is on disk, and nothing writes any more", func() bool {
				all, _, err := m.db.tasks()
				return err == nil && len(all) == 2 && all[0].SentRunning && all[1].SentRunning
			})
			before, err := m.runtime.Status(t.Context(), "t2-0")
			if err != nil {
				t.Fatal(err)
			}
			err = m.db.committer.commit(func(tx *bbolt.Tx) error { return tx.Bucket(bucketTasks).Put([]byte("t1"), []byte(bad)) })
			if err != nil {
				t.Fatal(err)
			}
			m.kill()
			m.boot()
			if after, err := m.runtime.Status(t.Context(), "t2-0"); err != nil || after.PID != before.PID {
				t.Errorf("the other task's container was %+v and is %+v, %v", before, after, err)
			}
			if left, err := m.runtime.List(t.Context()); err != nil || len(left) != 1 {
				t.Errorf("the node has %+v, %v; want the other task's container", left, err)
			}
			m.missing(wanting("t1", "t2"))
			if stop := m.await("t1", "STOPPED"); !strings.Contains(aws.ToString(stop.Reason), "lost its records") {
				t.Errorf("the reason is %q", aws.ToString(stop.Reason))
			}
			m.clean()
		})
	}
}

func TestDamagedRecordsSayHowToGoOn(t *testing.T) {
	m := newMachine(t)
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	m.kill()
	path := filepath.Join(m.dir, "agent.db")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("garbage "), int(info.Size()/8)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = openDB(m.dir)
	if err == nil || !strings.Contains(err.Error(), path+" is damaged") || !strings.Contains(err.Error(), "move the file away") {
		t.Fatalf("the error is %v", err)
	}
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	m.boot()
	if left, err := m.runtime.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("without records the node has %+v, %v", left, err)
	}
	m.missing(wanting("t1"))
	m.await("t1", "STOPPED")
	m.clean()
}

// TestTaskThatCouldNotBeRecordedIsNotCalledLost: a full disk refused the record; the
// control plane sends the task again, and the manifest in between says nothing else.
func TestTaskThatCouldNotBeRecordedIsNotCalledLost(t *testing.T) {
	m := newMachine(t)
	full, err := openDB(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := full.close(); err != nil {
		t.Fatal(err)
	}
	m.engine.db = full
	if err := m.engine.accept(t.Context(), taskOf("t1", "sleep", "100")); err == nil {
		t.Fatal("a task was accepted that is not on disk")
	}
	m.engine.db = m.db
	m.missing(wanting("t1", "t2"))
	m.await("t2", "STOPPED") // never sent: lost
	m.accept(taskOf("t1", "sleep", "100"))
	m.await("t1", "RUNNING")
	if m.plane.count("t1", "STOPPED") > 0 {
		t.Error("the task was reported as lost")
	}
	m.clean()
}

func TestTaskWithoutItsNetworkIsEnded(t *testing.T) {
	m := newMachine(t)
	for _, id := range []string{"t1", "t2"} {
		m.accept(taskOf(id, "sleep", "100"))
		m.await(id, "RUNNING")
	}
	m.kill()
	if err := m.nets.Teardown(t.Context(), "t1-0"); err != nil {
		t.Fatal(err)
	}
	m.boot()
	if stop := m.await("t1", "STOPPED"); !strings.Contains(aws.ToString(stop.Reason), "network was lost") {
		t.Errorf("the reason is %q", aws.ToString(stop.Reason))
	}
	if m.plane.count("t2", "STOPPED") > 0 {
		t.Error("the other task was ended too")
	}
	m.clean()
}
