package operations

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got, err := Parse([]byte("# of ECS\nCreateCluster full\n\nRunTask partial: no Fargate\nStopTask absent\n"))
	want := []Operation{{"CreateCluster", Full, ""}, {"RunTask", Partial, "no Fargate"}, {"StopTask", Absent, ""}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"RunTask":                     "line 1",
		"A full\nRunTask done":        "line 2",
		"RunTask partial":             "none of",
		"RunTask partial: ":           "none of",
		"RunTask full now":            "none of",
		"B full\nA full":              "A stands after B",
		"A full\nA partial: the rest": "A stands after A",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestReadAndUpdate(t *testing.T) {
	root := t.TempDir()
	for room, text := range map[string]string{"sts": "AssumeRole absent\n", "ecs": "ListTasks full\nRunTask partial: no Fargate\nStopTask absent\n"} {
		dir := filepath.Join(root, "internal", "service", room)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "operations.txt"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rooms, err := Read(root)
	if err != nil || len(rooms) != 2 || rooms[0].Name != "ecs" {
		t.Fatalf("got %v, %v", rooms, err)
	}
	got, err := Update("# L\n"+Begin+"\nold\n"+End+"\nrest\n", rooms)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# L\n" + Begin + "\n| service", "| ecs | 2 | 3 | 1 | 1 |\n", "| sts | 0 | 1 | 0 | 0 |\n",
		"- ListTasks\n- RunTask (partly: no Fargate)\n", End + "\nrest\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "old") || strings.Contains(got, "StopTask") {
		t.Errorf("holds what it should not:\n%s", got)
	}
	again, err := Update(got, rooms)
	if err != nil || again != got {
		t.Errorf("a second update changes it: %v", err)
	}
	for _, readme := range []string{"", End + Begin, Begin + "\n"} {
		if _, err := Update(readme, rooms); err == nil {
			t.Errorf("%q was updated", readme)
		}
	}
}
