package policy

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// FuzzParse: no text makes the parser or the evaluator panic, and what is refused is
// refused with IAM's words. Run normally it takes the seeds: policies as they are, and
// some of them cut and altered.
func FuzzParse(f *testing.F) {
	for seed := range uint64(60) {
		w := world{rand.New(rand.NewPCG(seed, 3))}
		kind := Kind(seed % 3)
		text := w.policy(kind)
		f.Add([]byte(text), int(kind))
		for range 5 {
			altered := []byte(text)
			at := w.IntN(len(altered))
			switch w.IntN(3) {
			case 0:
				altered = altered[:at]
			case 1:
				altered[at] = `{}[]",:*?$\ a1`[w.IntN(14)]
			default:
				altered = append(altered[:at:at], altered[w.IntN(len(altered)):]...)
			}
			f.Add(altered, int(kind))
		}
	}
	for _, text := range []string{``, `null`, `{"Statement":null}`, `{"Statement":[null]}`, `{"Statement":{"Effect":null,"Action":null}}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${","Condition":{"StringLike":{"a":"${}"}}}}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:x","Resource":"arn:${a:b}:c","Condition":{"ArnLike":{"":"::::::"}}}}`} {
		f.Add([]byte(text), 0)
	}
	c := contextOf("aws:username=alice", "a=1", "=x")
	f.Fuzz(func(t *testing.T, text []byte, kind int) {
		d, err := Parse(text, Kind(((kind%3)+3)%3))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("an error without IAM's message: %v", err)
			}
			return
		}
		p := &Policies{Identity: []Attached{{"a", d}}, Resource: &Attached{"a", d}, Boundary: &Attached{"a", d}}
		for _, who := range people {
			r := NewRequest(who, "s3:GetObject", "arn:aws:s3:::b/x", c)
			if got, explained := Evaluate(r, p), Explain(r, p); got != explained.Decision {
				t.Fatalf("decided %v and explained %v", got, explained.Decision)
			}
		}
		renamed := d.Renamed(string(text), func(string) string { return "AIDA1234567890123456" })
		again, err := Parse([]byte(renamed), d.kind)
		if err != nil || len(again.Named()) != len(d.Named()) || renamed != again.Renamed(renamed, func(name string) string { return name }) {
			t.Fatalf("%s renamed to %s: %v", text, renamed, err)
		}
	})
}

// A pattern of many wildcards takes no time that matters, whatever it is held against.
func TestHostilePatterns(t *testing.T) {
	long := make([]byte, 2000)
	for i := range long {
		long[i] = 'a'
	}
	stars := ""
	for range 500 {
		stars += "*a"
	}
	doc := identity(t, `"Effect":"Allow","Action":"s3:x","Resource":["arn:aws:ec2:`+stars+`b:`+stars+`b:`+stars+`b","*"],"Condition":{"StringLike":{"k":"`+stars+`b"}}`)
	r := NewRequest(alice, "s3:x", "arn:aws:ec2:"+string(long)+":"+string(long)+":"+string(long), contextOf("k="+string(long)))
	if Evaluate(r, &Policies{Identity: []Attached{doc}}).Allowed {
		t.Error("allowed")
	}
}
