package table

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `{
 "metadata": {"apiVersion": "2020-01-02"},
 "operations": {
  "Make": {"input": {"shape": "MakeRequest"}},
  "Ping": {},
  "Look": {"input": {"shape": "LookRequest"}}
 },
 "shapes": {
  "LookRequest": {"type": "structure", "members": {"free": {"shape": "Free"}}},
  "MakeRequest": {"type": "structure", "required": ["zeta"], "members": {
   "zeta": {"shape": "Free"}, "alpha": {"shape": "Names"}, "free": {"shape": "Free"}, "tree": {"shape": "Tree"},
   "mode": {"shape": "Mode"}, "rate": {"shape": "Rate"}, "secrets": {"shape": "Secrets"}, "tags": {"shape": "Tags"}}},
  "Free": {"type": "string"},
  "Names": {"type": "list", "member": {"shape": "Name"}, "max": 5},
  "Name": {"type": "string", "min": 1, "max": 10, "pattern": "[a-z ]+ /x"},
  "Tree": {"type": "structure", "members": {"leaf": {"shape": "Name"}, "branches": {"shape": "Trees"}}},
  "Trees": {"type": "list", "member": {"shape": "Tree"}},
  "Mode": {"type": "string", "enum": ["B", "A"]},
  "Rate": {"type": "double", "min": 0.5},
  "Secrets": {"type": "list", "member": {"shape": "Secret"}},
  "Secret": {"type": "string", "sensitive": true},
  "Tags": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Free"}}
 }
}`

const sampleTable = `service sample 2020-01-02
operation Look -
operation Make MakeRequest
operation Ping -
structure MakeRequest
  *zeta -
  alpha Names
  tree Tree
  mode Mode
  rate Rate
  secrets Secrets
  tags Tags
string Mode enum B|A
string Name 1..10 /[a-z ]+ /x
list Names ..5 Name
number Rate 0.5..
string Secret sensitive
list Secrets Secret
map Tags Name -
structure Tree
  leaf Name
  branches Trees
list Trees Tree
`

func TestFromModel(t *testing.T) {
	table, err := FromModel("sample", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(string(table.Format()), "\n")
	if sorted(got) != sorted(sampleTable) {
		t.Errorf("got\n%s\nwant\n%s", got, sampleTable)
	}
	again, err := Parse(table.Format())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Format(), table.Format()) {
		t.Errorf("read back as\n%s", again.Format())
	}
}

// sorted makes shapes comparable whatever their order; members stay in theirs.
func sorted(text string) string {
	shapes := strings.Split(strings.ReplaceAll(text, "\n  ", "\v"), "\n")
	for i := range shapes {
		for j := i + 1; j < len(shapes); j++ {
			if shapes[j] < shapes[i] {
				shapes[i], shapes[j] = shapes[j], shapes[i]
			}
		}
	}
	return strings.Join(shapes, "\n")
}

func TestParseRefusesWhatItCannotRead(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense":              "line 1",
		"\n  *a B":              "line 2",
		"string A 1..2 3":       "cannot read",
		"wheel A":               "cannot read",
		"list A":                "",
		"list A B":              "A refers to the unknown shape B",
		"operation A B":         "operation A refers to the unknown shape B",
		"structure A\n  *b Z\n": "A refers to the unknown shape Z",
	} {
		if _, err := Parse([]byte(text)); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestCompile(t *testing.T) {
	tests := []struct {
		pattern   string
		good, bad []string
	}{
		{`[\w-_]*`, []string{"", "a-b_c"}, []string{"a b"}},
		{`[a-z]+`, []string{"abc"}, []string{"abc!", "Aabc", "a\nb"}},
		{`a|b`, []string{"a", "b"}, []string{"ab", "xa"}},
		{`[\u0020-\u00FF]+`, []string{"aÿ"}, []string{"Ā", "\n"}},
		{`(\u002F)|(\u002F[\u0021-\u007E]+\u002F)`, []string{"/", "/a/"}, []string{"a", "/a"}},
		{`[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*`, []string{"a😀\n"}, []string{"\x01"}},
		{`\\u0041`, []string{`\u0041`}, []string{"A"}},
		{`[\p{Print}]+`, []string{"a b~"}, []string{"é"}},
		{`^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`, []string{"a-b", "abc"}, []string{"a--b", "-ab", "ab-"}},
	}
	for _, tt := range tests {
		re, err := Compile(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		for _, s := range tt.good {
			if !re.MatchString(s) {
				t.Errorf("%s does not match %q", tt.pattern, s)
			}
		}
		for _, s := range tt.bad {
			if re.MatchString(s) {
				t.Errorf("%s matches %q", tt.pattern, s)
			}
		}
	}
	if _, err := Compile(`(?=a)b`); err == nil || !strings.Contains(err.Error(), "needs a rewrite") {
		t.Errorf("lookahead: got %v", err)
	}
}

// The committed tables are what the published models give.
func TestTablesAreUpToDate(t *testing.T) {
	models := filepath.Join("..", "..", "..", "..", "..", "shared", "aws-models")
	if _, err := os.Stat(models); err != nil {
		t.Skipf("no published models beside the repository: %v", err)
	}
	files, err := filepath.Glob("../tables/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, file := range files {
		service := strings.TrimSuffix(filepath.Base(file), ".txt")
		committed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(models, service, "service-2.json"))
		if err != nil {
			t.Fatal(err)
		}
		table, err := FromModel(service, text)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(table.Format(), committed) {
			t.Errorf("%s differs from the model: go generate ./internal/wire/constraint", file)
		}
		if again, err := Parse(committed); err != nil || !bytes.Equal(again.Format(), committed) {
			t.Errorf("%s is not read back as it was written: %v", file, err)
		}
	}
}
