package control

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore.dev/longshore/internal/node"
	"longshore.dev/longshore/internal/store"
)

// notInFiles looks for secrets in every file of a directory.
func notInFiles(t *testing.T, dir string, secrets map[string]string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		files++
		for what, secret := range secrets {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s is in %s", what, strings.TrimPrefix(path, dir))
			}
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files were searched: %v", files, err)
	}
}

// No operation shows a secret that was issued before, not to the root user either; and
// none is in a file or a log.
func TestNoAnswerHoldsASecret(t *testing.T) {
	a := newArena(t)
	type in = map[string]any
	a.furnish(a.root, testAccount, "plausible")
	user := a.user("ann", may("*"))
	session := xmlKeys(a.made(user, "sts:AssumeRole", in{"RoleArn": "arn:aws:iam::" + testAccount + ":role/plausible", "RoleSessionName": "night"}).body)
	passing := xmlKeys(a.made(user, "sts:GetSessionToken", in{}).body)
	token := a.token(TokenOptions{})
	joined, err := node.Join(within(t, time.Minute), joinOptions(t, a.Endpoint(), token.Text))
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"the root user's secret": a.root.SecretAccessKey, "another account's": a.stranger.SecretAccessKey, "a user's secret": user.SecretAccessKey,
		"a role's session's secret": session.SecretAccessKey, "its token": session.SessionToken, "a user's session's secret": passing.SecretAccessKey,
		"a registration token": strings.Split(token.Text, ".")[2], "a node's secret": joined.SecretAccessKey,
	}
	for what, secret := range secrets {
		if len(secret) < 16 {
			t.Fatalf("%s is %q", what, secret)
		}
	}
	for _, o := range a.targets() {
		if strings.HasPrefix(o.name, "Delete") {
			continue
		}
		for _, c := range []string{"plausible", "ann"} {
			got := a.call(o, a.root, o.with(func(path string) string {
				if memberOf(path) == "username" {
					return c
				}
				return ""
			}))
			for what, secret := range secrets {
				if strings.Contains(got.body, secret) {
					t.Errorf("%s shows %s", o, what)
				}
			}
		}
	}
	a.calm()
	for what, secret := range secrets {
		if strings.Contains(a.log.String(), secret) {
			t.Errorf("%s is in the log", what)
		}
	}
	notInFiles(t, a.data, secrets)
}

// The key of the server's authority is on no disk but sealed, and the root key is a
// file of its owner's alone.
func TestPrivateKeysAreSealed(t *testing.T) {
	r := serve(t, "on")
	sealer, err := RootKey{}.ring(r.data)
	if err != nil {
		t.Fatal(err)
	}
	record, ok := r.authorities.Get(r.db.Snapshot(), store.Scope{}, authorityID)
	if !ok {
		t.Fatal("there is no authority")
	}
	key, err := sealer.Open(authorityContext, record.Key)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	notInFiles(t, r.data, map[string]string{
		"the authority's key": string(key), "the authority's key in base64": base64.StdEncoding.EncodeToString(key), "a key in PEM": "PRIVATE KEY-----",
	})
	for path, want := range map[string]fs.FileMode{r.data: 0o700, RootKey{}.path(r.data): 0o600, accessPath(r.data): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v: %v", path, info.Mode(), err)
		}
	}
}
