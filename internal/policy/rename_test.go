package policy

import (
	"slices"
	"testing"
)

// Only principals get other names, however they are written, and nothing else changes.
func TestRenamed(t *testing.T) {
	const text = `{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Principal":{"AWS":["\u0061rn:aws:iam::111111111111:user/a", "111111111111" ,"arn:aws:iam::111111111111:role/q\"\\\\x/b"]},"Action":"sts:AssumeRole",
   "Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:user/a"}}},
  {"Effect":"Allow","Principal":{"AWS":"AIDA1234567890123456","Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	const want = `{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Principal":{"AWS":["1", "111111111111" ,"2"]},"Action":"sts:AssumeRole",
   "Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:user/a"}}},
  {"Effect":"Allow","Principal":{"AWS":"3","Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	d, err := Parse([]byte(text), Trust)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"arn:aws:iam::111111111111:user/a", `arn:aws:iam::111111111111:role/q"\\x/b`, "AIDA1234567890123456"}
	if got := d.Named(); !slices.Equal(got, names) {
		t.Errorf("named %q", got)
	}
	if got := d.Renamed(text, func(name string) string { return string(rune('1' + slices.Index(names, name))) }); got != want {
		t.Errorf("got %s", got)
	}
}
