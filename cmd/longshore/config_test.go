package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func parse(t *testing.T, config string, args ...string) (*cli, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "longshore.json")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var app cli
	parser := kong.Must(&app, kong.Configuration(readConfig), kong.Vars{"data": "/default"}, kong.Writers(io.Discard, io.Discard))
	_, err := parser.Parse(append([]string{"up", "--config", path}, args...))
	return &app, err
}

func TestConfigurationFile(t *testing.T) {
	const config = `{"data": "/srv/longshore", "no-sample": true, "region": "eu-west-1", "etcd-endpoints": ["http://a:2379", "http://b:2379"]}`
	app, err := parse(t, config, "--region", "eu-central-1")
	if err != nil {
		t.Fatal(err)
	}
	up := app.Up
	if up.Data != "/srv/longshore" || !up.NoSample || len(up.EtcdEndpoints) != 2 {
		t.Errorf("the file's values were not taken: %+v", up)
	}
	if up.Region != "eu-central-1" {
		t.Errorf("region = %s: the command line must win over the file", up.Region)
	}
	t.Setenv("LONGSHORE_DATA", "/from/env")
	if app, err = parse(t, config); err != nil || app.Up.Data != "/from/env" {
		t.Errorf("data = %s, %v: a variable must win over the file", app.Up.Data, err)
	}
}

func TestMisspeltConfigurationIsRefused(t *testing.T) {
	for config, want := range map[string]string{
		`{"regoin": "eu-west-1"}`: "regoin",
		`["region"]`:              "not a JSON object",
	} {
		if _, err := parse(t, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want one that says %q", config, err, want)
		}
	}
}
