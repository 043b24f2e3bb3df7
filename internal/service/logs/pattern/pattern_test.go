package pattern

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const accessLog = `127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534`

func TestMatch(t *testing.T) {
	trail := `{"eventType":"UpdateTrail","sourceIPAddress":"111.111.111.111","code":404,"ok":true,"none":null,` +
		`"arr":[1,{"k":"v"}],"user":{"id":1,"e mail":"john@example.com"},"big":1.5e3}`
	for _, c := range []struct {
		pattern, message string
		want             bool
	}{
		{"", "anything", true},
		{"  ", "anything", true},
		{"ERROR", "[ERROR 400] BAD REQUEST", true},
		{"ERROR", "error", false},
		{"ERROR ARGUMENTS", "ARGUMENTS: ERROR", true},
		{"ERROR ARGUMENTS", "ERROR 5", false},
		{"?ERROR ?WARN", "WARN 1", true},
		{"?ERROR ?WARN", "INFO 1", false},
		{"ERROR -ARGUMENTS", "ERROR 400", true},
		{"ERROR -ARGUMENTS", "ERROR MISSING ARGUMENTS", false},
		{"-DEBUG", "INFO", true},
		{`"INTERNAL SERVER ERROR"`, "x INTERNAL SERVER ERROR y", true},
		{`"INTERNAL SERVER ERROR"`, "INTERNAL  SERVER ERROR", false},
		{`-"not found" "e:"`, "e: ok", true},
		{`-"not found" "e:"`, "e: not found", false},
		{`"say \"hi\""`, `they say "hi"`, true},
		{`%AUTHORIZED: [0-9]{3}%`, "UNAUTHORIZED: 401", true},
		{`%^AUTHORIZED%`, "UNAUTHORIZED: 401", false},
		{`größe`, "die größe", true},

		{`{ $.eventType = "UpdateTrail" }`, trail, true},
		{`{$.eventType="UpdateTrail"}`, trail, true},
		{`{ $.eventType = UpdateTrail }`, trail, true},
		{`{ $.eventType = "Update*" }`, trail, true},
		{`{ $.eventType = "*Delete*" }`, trail, false},
		{`{ $.sourceIPAddress != 123.123.* }`, trail, true},
		{`{ $.code = 404 }`, trail, true},
		{`{ $.code = 4* }`, trail, true},
		{`{ $.code >= 404 && $.code < 405 }`, trail, true},
		{`{ $.code > 404 || $.ok IS FALSE }`, trail, false},
		{`{ $.big = 1500 }`, trail, true},
		{`{ $.big > 1.4e3 }`, trail, true},
		{`{ $.ok IS TRUE }`, trail, true},
		{`{ $.none IS NULL }`, trail, true},
		{`{ $.missing IS NULL }`, trail, false},
		{`{ $.missing NOT EXISTS }`, trail, true},
		{`{ $.user NOT EXISTS }`, trail, false},
		{`{ $.missing != "x" }`, trail, false},
		{`{ $.arr[0] = 1 }`, trail, true},
		{`{ $.arr[1].k = "v" }`, trail, true},
		{`{ $.arr[*].k = "v" }`, trail, true},
		{`{ $.arr[9] = 1 }`, trail, false},
		{`{ $.user['e mail'] = %.*@example\.com% }`, trail, true},
		{`{ ($.user.id = 1) && (($.code = 404) || ($.code = 500)) }`, trail, true},
		{`{ $.user.id = 2 || $.code = 404 && $.ok IS FALSE }`, trail, false},
		{`{ $.eventType = "UpdateTrail" }`, "not JSON", false},
		{`{ $.eventType = "UpdateTrail" }`, `{"eventType":`, false},

		{`[ip, id, user, time, request, status, size]`, accessLog, true},
		{`[ip, id, user, time, request, status]`, accessLog, false},
		{`[..., status, size]`, accessLog, true},
		{`[..., status = 4*, size > 1000]`, accessLog, true},
		{`[..., status = 4*, size > 2000]`, accessLog, false},
		{`[ip, ..., size]`, accessLog, true},
		{`[ip = 127.0.0.1, ...]`, accessLog, true},
		{`[ip, id, user = frank && user != john, ...]`, accessLog, true},
		{`[ip, id, user, time, request = "*index*", status = 404 || status = 410, size]`, accessLog, true},
		{`[ip = %127\.0\.0\.[0-9]%, ...]`, accessLog, true},
	} {
		p, err := Parse(c.pattern)
		if err != nil {
			t.Errorf("Parse(%s): %v", c.pattern, err)
			continue
		}
		if got := p.Match(c.message); got != c.want {
			t.Errorf("%s on %s: %v, want %v", c.pattern, c.message, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ pattern, says string }{
		{`"open`, "not closed"},
		{`%open`, "not closed"},
		{`%(%`, "regular expression"},
		{`ERROR:`, "double quotes"},
		{`ERROR -`, "term is missing"},
		{`{ $.a = 1`, "not closed"},
		{`{ a = 1 }`, "selector"},
		{`{ $.a }`, "comparison"},
		{`{ $.a = }`, "expected a value"},
		{`{ $.a < "x" }`, "numbers"},
		{`{ $.a IS ODD }`, "IS NULL"},
		{`{ $.a = 1 $.b = 2 }`, "&&"},
		{`{ ($.a = 1 }`, "')'"},
		{`{ $.a[x] = 1 }`, "index"},
		{`{ }`, "selector"},
		{`[a, ..., ...]`, "once"},
		{`[a = 1 && b = 2]`, "names b"},
		{`[a`, "not closed"},
		{"{" + strings.Repeat("(", 500) + "}", "nested"},
	} {
		if _, err := Parse(c.pattern); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Parse(%s): %v, want an error about %q", c.pattern, err, c.says)
		}
	}
}

// Hostile text is refused or matched, but never breaks anything.
func TestParseNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := []string{"{", "}", "[", "]", "$", ".", "a", " ", "\"", "%", "=", "!=", "&&", "||", "(", ")", "...", ",", "*", "-", "?", "IS", "NULL", "1", "\\", "'"}
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 20).Draw(t, "pattern"), "")
		if p, err := Parse(text); err == nil {
			p.Match(`{"a":[1,{"a":"b"}]}`)
			p.Match(accessLog)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	p, err := Parse(`{ $.level = "error" && $.status >= 500 }`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.Match(`{"level":"error","status":503,"message":"upstream timed out","path":"/items/17"}`)
	}
}
