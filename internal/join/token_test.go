package join

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestATokenIsItsText(t *testing.T) {
	sum := sha256.Sum256([]byte("key"))
	for _, pin := range []string{"", base64.RawURLEncoding.EncodeToString(sum[:])} {
		made, err := New(rand.Reader, pin)
		if err != nil {
			t.Fatal(err)
		}
		read, err := Parse(" " + made.Text() + "\n") // as from a file
		if err != nil || read.ID != made.ID || read.Pin != pin || string(read.Hash()) != string(made.Hash()) {
			t.Errorf("%v: read %v of %v", err, read, made)
		}
		other, err := New(rand.Reader, pin)
		if err != nil || other.ID == made.ID || string(other.Hash()) == string(made.Hash()) {
			t.Errorf("%v: two tokens are alike", err)
		}
		secret := strings.Split(made.Text(), ".")[2]
		for _, printed := range []string{fmt.Sprint(made), fmt.Sprintf("%+v %#v %s", made, made, &made)} {
			if strings.Contains(printed, secret) {
				t.Errorf("a printed token shows its secret: %s", printed)
			}
		}
	}
}

func TestWhatIsNoToken(t *testing.T) {
	made, err := New(rand.Reader, "")
	if err != nil {
		t.Fatal(err)
	}
	good := made.Text()
	parts := strings.Split(good, ".")
	for name, text := range map[string]string{
		"nothing": "", "a word": "secret", "another form": "lsj2" + good[4:], "too long": good + strings.Repeat("A", 1<<20),
		"a part missing": strings.Join(parts[:3], "."), "a part more": good + ".x",
		"an id with a path": "lsj1.../../../etc/pass." + parts[2] + ".-", "upper case id": "lsj1." + strings.ToUpper("abcdefabcdefabcd") + "." + parts[2] + ".-",
		"a short secret": "lsj1." + parts[1] + "." + parts[2][:20] + ".-", "no base64": "lsj1." + parts[1] + "." + strings.Repeat("!", 43) + ".-",
		"a short pin": strings.Join(parts[:3], ".") + ".AAAA", "an empty pin": strings.Join(parts[:3], ".") + ".",
	} {
		if token, err := Parse(text); err == nil {
			t.Errorf("%s: %v was read", name, token)
		} else if len(text) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error shows what was given: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("lsj1.0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.-")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(token.Text())
		if err != nil || again.ID != token.ID || again.Pin != token.Pin || string(again.Secret) != string(token.Secret) {
			t.Errorf("%q was read, and its text is not the same token: %v", text, err)
		}
	})
}
