package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbapi "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"longshore.dev/longshore/internal/edge"
	"longshore.dev/longshore/internal/node"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// state asks for the stream of load balancers, and returns its first line.
func (a *arena) state(c sigv4.Credentials) (status int, line string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Endpoint()+edge.StatePath+"?kind="+edge.Kind, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if c.AccessKeyID != "" {
		a.sign(r, c, "ecs", nil)
	}
	response, err := a.client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	buffer := make([]byte, 64<<10)
	n, _ := response.Body.Read(buffer)
	return response.StatusCode, string(buffer[:n])
}

// Only nodes are told what they are to serve, and only of their own account; and only they
// may say how targets are.
func TestOnlyNodesFollowTheState(t *testing.T) {
	a := newArena(t)
	joined, err := node.Join(within(t, time.Minute), joinOptions(t, a.Endpoint(), a.token(TokenOptions{}).Text))
	if err != nil {
		t.Fatal(err)
	}
	agent := sigv4.Credentials{AccessKeyID: joined.AccessKeyID, SecretAccessKey: joined.SecretAccessKey}
	for account, name := range map[string]string{testAccount: "ours", theirs: "theirs-only"} {
		ctx := wire.WithCall(context.Background(), &wire.Call{Account: account, Region: testRegion})
		var subnets []string
		for _, s := range a.ecs.Subnets(account, testRegion) {
			subnets = append(subnets, s.ID)
		}
		if _, err := a.elb.CreateLoadBalancer(ctx, &elbapi.CreateLoadBalancerInput{Name: aws.String(name), Subnets: subnets}); err != nil {
			t.Fatal(err)
		}
	}
	if status, line := a.state(agent); status != http.StatusOK || !strings.Contains(line, "ours") || strings.Contains(line, "theirs-only") {
		t.Errorf("a node is told: %d %s", status, line)
	}
	user := a.user("reader", `{"Effect":"Allow","Action":"*","Resource":"*"}`)
	body, err := json.Marshal(edge.Health{})
	if err != nil {
		t.Fatal(err)
	}
	for who, c := range map[string]sigv4.Credentials{"nobody": {}, "a user": user, "root": a.root, "another account": a.stranger, "a wrong secret": {AccessKeyID: agent.AccessKeyID, SecretAccessKey: "wrong"}} {
		if status, line := a.state(c); status == http.StatusOK || strings.Contains(line, "ours") {
			t.Errorf("%s is told: %d %s", who, status, line)
		}
		r, err := http.NewRequest(http.MethodPost, a.Endpoint()+edge.HealthPath, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if c.AccessKeyID != "" {
			a.sign(r, c, "ecs", body)
		}
		if got := a.send(r); got.status == http.StatusOK {
			t.Errorf("%s may say how targets are", who)
		}
	}
	a.calm()
}
