package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore.dev/longshore/internal/image"
)

func TestImageSettings(t *testing.T) {
	dir := t.TempDir()
	notPEM := filepath.Join(dir, "not.pem")
	if err := os.WriteFile(notPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, s := range map[string]ImageSettings{
		"":                     {Mirrors: []string{"docker.io=https://a", "docker.io=https://b:5000/x?y"}, Insecure: []string{"r:5000"}},
		"write it as HOST=URL": {Mirrors: []string{"docker.io"}},
		"no such file":         {CAFile: filepath.Join(dir, "none")},
		"holds no certificate": {CAFile: notPEM},
		"unknown pull policy":  {PullBehavior: "sometimes"},
	} {
		o, err := s.options(dir, nil)
		if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", s, err, text)
		}
		if text == "" && (len(o.Mirrors["docker.io"]) != 2 || len(o.InsecureHosts) != 1) {
			t.Errorf("options %+v", o)
		}
	}
	if every := (ImageSettings{}).cleanEvery(); every != 5*time.Minute {
		t.Errorf("cleaned every %s", every)
	}
	if every := (ImageSettings{Cleanup: image.Cleanup{Interval: time.Second}}).cleanEvery(); every != time.Second {
		t.Errorf("cleaned every %s", every)
	}
}
