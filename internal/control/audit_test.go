package control

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/node"
)

// auditLine is what the tests look at of a line.
type auditLine struct {
	Action, Account, Kind, AccessKeyID, Source, Result string
	Resources                                          []string
	Via                                                []string
}

func (r *running) auditLines() (lines []auditLine, text string) {
	r.t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.data, "audit.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, l)
	}
	return lines, string(raw)
}

// What changes something is in the audit log, and who tried to without leave: on every
// path, with nobody's secret.
func TestTheAuditLog(t *testing.T) {
	r := serve(t, "off")
	ctx := context.Background()
	token := r.token(TokenOptions{Uses: 2})
	joined, err := node.Join(within(t, time.Minute), joinOptions(t, r.Endpoint(), token.Text))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := r.post(request("guess", strings.Repeat("ab", 32))); status == 200 {
		t.Fatal("a guess joined")
	}
	user, err := r.owner().CreateUser(ctx, UserOptions{Name: "ann", Policies: []string{"ReadOnlyAccess"}})
	if err != nil {
		t.Fatal(err)
	}
	ann := r.as(node.Credentials{AccessKeyID: user.AccessKeyID, SecretAccessKey: user.SecretAccessKey})
	forged := r.as(node.Credentials{AccessKeyID: user.AccessKeyID, SecretAccessKey: "canary"})
	for _, c := range []*ecs.Client{ann, forged} {
		if _, err := c.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String("mine")}); err == nil {
			t.Error("a cluster was made")
		}
	}
	root := r.Access()
	if _, err := r.as(node.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}).CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String("ours")}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*ecs.Client{ann, forged} {
		_, _ = c.ListClusters(ctx, nil) // is only read
	}
	owner, err := NewClient(Access{Endpoint: r.Endpoint(), Region: testRegion, Account: testAccount, AccessKeyID: user.AccessKeyID, SecretAccessKey: "canary"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.CreateToken(ctx, TokenOptions{LifeSeconds: 60, Uses: 1}); err == nil {
		t.Error("a token was made")
	}
	r.stop()
	lines, text := r.auditLines()
	var got strings.Builder
	for _, l := range lines {
		if l.Source != "127.0.0.1" && len(l.Via) == 0 {
			t.Errorf("nobody can tell where this came from: %+v", l)
		}
		fmt.Fprintln(&got, l.Action, l.Kind, l.Result, strings.Join(l.Resources, " "))
	}
	cluster := "arn:aws:ecs:" + testRegion + ":" + testAccount + ":cluster/"
	for _, want := range []string{
		"longshore:CreateJoinToken root ok longshore:tokens",
		"longshore:JoinNode  ok longshore:token/" + token.Info.ID + " longshore:node/" + joined.NodeID,
		"longshore:JoinNode  InvalidToken ",
		"longshore:CreateAccess root ok longshore:users",
		"iam:CreateAccessKey root ok arn:aws:iam::" + testAccount + ":user/ann",
		"ecs:CreateCluster user AccessDeniedException " + cluster + "mine",
		"ecs:CreateCluster  InvalidSignatureException ",
		"ecs:CreateCluster root ok " + cluster + "ours",
		"longshore:CreateJoinToken  InvalidSignatureException ",
	} {
		if !strings.Contains("\n"+got.String(), "\n"+want+"\n") {
			t.Errorf("no line says %q", want)
		}
	}
	if t.Failed() {
		t.Log(got.String())
	}
	for _, secret := range []string{token.Text, joined.SecretAccessKey, user.SecretAccessKey, root.SecretAccessKey, "canary", "ListClusters"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the audit log", secret)
		}
	}
	info, err := os.Stat(filepath.Join(r.data, "audit.log"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the audit log: %v %v", info.Mode(), err)
	}
}
