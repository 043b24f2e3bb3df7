package iam

import (
	"testing"

	"github.com/google/uuid"
)

func TestCredentialsIDs(t *testing.T) {
	s := serve(t, Limits{})
	id := func(task, kind string) string {
		t.Helper()
		id, err := s.CredentialsID(t.Context(), task, kind)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := uuid.Parse(id); err != nil {
			t.Fatalf("%s is no UUID: %v", id, err)
		}
		return id
	}
	first := id("task/1", "TaskApplication")
	if again := id("task/1", "TaskApplication"); again != first {
		t.Errorf("the id changed from %s to %s", first, again)
	}
	seen := map[string]bool{first: true, id("task/1", "TaskExecution"): true, id("task/2", "TaskApplication"): true}
	if other := serve(t, Limits{}); len(seen) != 3 {
		t.Errorf("of three ids, %d differ", len(seen))
	} else if elsewhere, err := other.CredentialsID(t.Context(), "task/1", "TaskApplication"); err != nil || elsewhere == first {
		t.Errorf("another server has the same id %s, %v", elsewhere, err)
	}
}
