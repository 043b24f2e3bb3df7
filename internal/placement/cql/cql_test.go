package cql

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type fakeInstance struct {
	values     map[string]string
	groups     []string
	running    int
	registered time.Time
}

func (f fakeInstance) Value(name string) (string, bool) { v, ok := f.values[name]; return v, ok }
func (f fakeInstance) TaskGroups() iter.Seq[string]     { return slices.Values(f.groups) }
func (f fakeInstance) RunningTasks() int                { return f.running }
func (f fakeInstance) RegisteredAt() time.Time          { return f.registered }

var example = fakeInstance{
	values: map[string]string{
		"agentConnected": "true", "agentVersion": "1.14.5", "ec2InstanceId": "i-abcd1234",
		"attribute:ecs.instance-type": "g2.2xlarge", "attribute:ecs.availability-zone": "us-east-1a",
		"attribute:stack": "prod", "attribute:empty": "", "attribute:slots": "12", "attribute:note": "two words, one comma",
	},
	groups: []string{"service:production", "family:web"}, running: 2,
	registered: time.Date(2018, 2, 12, 8, 30, 0, 999, time.UTC),
}

func TestMatches(t *testing.T) {
	tests := []struct {
		expression string
		want       bool
	}{
		// The developer guide's own examples.
		{"attribute:ecs.instance-type == t2.small", false},
		{"attribute:ecs.availability-zone in [us-east-1a, us-east-1b]", true},
		{"attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone != us-east-1d", true},
		{"task:group == service:production", true},
		{"not(task:group == database)", true},
		{"runningTasksCount == 1", false},
		{"agentVersion < 1.14.5", false},
		{"registeredAt < 2018-02-13", true},
		{"ec2InstanceId in ['i-abcd1234', 'i-wxyx7890']", true},

		// Every spelling of every operator.
		{"attribute:stack equals prod", true},
		{"attribute:stack not_equals prod", false},
		{"runningTasksCount > 1", true},
		{"runningTasksCount greater_than 2", false},
		{"runningTasksCount>=2", true},
		{"runningTasksCount greater_than_equal 3", false},
		{"runningTasksCount less_than 3", true},
		{"runningTasksCount <= 1", false},
		{"runningTasksCount less_than_equal 2", true},
		{"attribute:stack exists", true},
		{"attribute:stack !exists", false},
		{"attribute:nothing not_exists", true},
		{"attribute:stack !in [dev,test]", true},
		{"attribute:stack not_in[prod]", false},
		{"attribute:stack matches p.*", true},
		{"attribute:stack !~ p.*", false},
		{"attribute:stack not_matches q.*", true},

		// Missing attributes satisfy no comparison, empty ones are there.
		{"attribute:nothing != prod", false},
		{"attribute:nothing not_in [prod]", false},
		{"attribute:nothing !~ prod", false},
		{"not attribute:nothing == prod", true},
		{"attribute:empty exists", true},
		{"attribute:empty == ''", true},

		// Patterns are anchored, may be bare or quoted.
		{"attribute:ecs.instance-type =~ g2", false},
		{"attribute:ecs.instance-type =~ (g2|t2).(small|2xlarge)", true},
		{"(attribute:ecs.instance-type =~ [a-g]2\\..{7})", true},
		{`attribute:ecs.instance-type =~ 'g\d[.]\dx.+'`, true},
		{`attribute:ecs.instance-type =~ t2.*||attribute:stack=~"pr.d"`, true},
		{`attribute:note =~ "two words, (one|two) comma"`, true},
		{`attribute:note == 'it\'s'`, false},
		{"attribute:stack =~ a|prod|b", true},
		{"attribute:stack =~ xprod|prodx", false},

		// Numbers as numbers, versions by their parts, dates in every form.
		{"attribute:slots > 9", true},
		{"attribute:slots > nine", false},
		{"attribute:stack > pro", true},
		{"agentVersion >= 1.9", true},
		{"agentVersion == 1.14.5.0", true},
		{"agentVersion != 2", true},
		{"registeredAt == 2018-02-12T08:30:00Z", true},
		{"registeredAt >= 2018-02-12T10:30:00+02:00", true},
		{"registeredAt > 2018-02-12T08:30:00", false},
		{"agentConnected == true", true},
		{"agentConnected in [false]", false},

		// Groups are a set.
		{"task:group != database", true},
		{"task:group != family:web", false},
		{"task:group in [x, family:web]", true},
		{"task:group not_in [x, family:web]", false},
		{"task:group =~ service:.*", true},
		{"task:group !~ service:.*", false},
		{"task:group exists", true},
		{"task:group !exists", false},

		// not binds before and, and before or.
		{"attribute:stack == dev and attribute:stack == dev or attribute:stack == prod", true},
		{"attribute:stack == prod or attribute:stack == dev and attribute:stack == dev", true},
		{"(attribute:stack == prod || attribute:stack == dev) && attribute:stack == dev", false},
		{"not attribute:stack == dev and attribute:stack == dev", false},
		{"!(attribute:stack == dev)&&!!(attribute:stack==prod)", true},
		{"not(not(attribute:stack==prod))", true},
	}
	for _, tt := range tests {
		e, err := Parse(tt.expression)
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		if got := e.Matches(example); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.expression, got, tt.want)
		}
	}
}

func TestSyntaxErrorsNameThePlace(t *testing.T) {
	tests := []struct {
		expression string
		position   int
		message    string
	}{
		{"", 1, "expected a subject such as attribute:name, found end of the expression"},
		{"color == red", 1, `unknown subject "color"`},
		{"attribute: == red", 1, "needs the attribute's name"},
		{"attribute:x", 12, "expected an operator after attribute:x, found end"},
		{"attribute:x = y", 13, "expected an operator after attribute:x, found '='"},
		{"attribute:x ==", 15, "expected an argument"},
		{"attribute:x == , y", 16, "expected an argument, found ','"},
		{"attribute:x == y z", 18, "unexpected 'z'; expected and, or, or the end"},
		{"attribute:x == ü and attribute:x == y)", 38, "unexpected ')'"},
		{"(attribute:x == y", 18, "expected ')' for the '(' at character 1"},
		{"attribute:x in a", 16, "expected a list such as [a, b]"},
		{"attribute:x in [a b]", 19, "expected ',' or ']'"},
		{"attribute:x in [a,]", 19, "expected an argument"},
		{"attribute:x == 'y", 16, "the quote ' is not closed"},
		{"attribute:x =~ (", 16, `the pattern "(" is not supported`},
		{"attribute:x =~ 'a)|(b'", 16, "is not supported"},
		{"attribute:x =~ (?=a)", 16, "invalid or unsupported Perl syntax"},
		{"agentVersion =~ 1.*", 14, "agentVersion does not have the operator matches"},
		{"agentVersion > new", 16, `agentVersion is compared with a version such as 1.14.5, not "new"`},
		{"runningTasksCount exists", 19, "runningTasksCount does not have the operator exists"},
		{"runningTasksCount < many", 21, "is compared with a whole number"},
		{"registeredAt < yesterday", 16, "is compared with a date"},
		{"task:group > a", 12, "task:group does not have the operator greater_than"},
		{"ec2InstanceId < a", 15, "does not have the operator less_than"},
		{strings.Repeat("(", maxDepth+2), maxDepth + 2, "nested deeper"},
		{strings.Repeat("!", maxDepth+2), maxDepth + 2, "nested deeper"},
		{"attribute:x == " + strings.Repeat("é", MaxLength), MaxLength + 1, "the limit is 2000"},
		{"attribute:x == \xff", 1, "not valid UTF-8"},
	}
	for _, tt := range tests {
		_, err := Parse(tt.expression)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Position != tt.position || !strings.Contains(syntax.Message, tt.message) {
			t.Errorf("%.60q: got %v, want %q at %d", tt.expression, err, tt.message, tt.position)
		}
	}
}

func TestReadsTasks(t *testing.T) {
	for expression, want := range map[string]bool{
		"attribute:x exists": false,
		"agentConnected == true and (runningTasksCount < 1 or attribute:x exists)": true,
		"not task:group exists": true,
	} {
		e, err := Parse(expression)
		if err != nil || e.ReadsTasks() != want || e.String() != expression {
			t.Errorf("%s: got %v, %v", expression, e, err)
		}
	}
}

// Whatever is given, Parse answers with an expression that can be evaluated, or
// an error at a place inside the source.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone != us-east-1d",
		"not(task:group == database)", "ec2InstanceId in ['i-abcd1234', \"i-wxyx7890\"]", "registeredAt<2018-02-13",
		"agentVersion >= 1.9 || !(runningTasksCount not_equals 3)", "attribute:a !exists && attribute:b =~ (\\)|[)]){2}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		e, err := Parse(source)
		if err == nil {
			e.Matches(example)
			again, err := Parse("(" + source + ")")
			if err == nil && again.Matches(example) != e.Matches(example) {
				t.Errorf("%q means something else in parentheses", source)
			}
			return
		}
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Position < 1 || syntax.Position > utf8.RuneCountInString(source)+1 {
			t.Errorf("%q: the error %v points outside", source, err)
		}
	})
}
