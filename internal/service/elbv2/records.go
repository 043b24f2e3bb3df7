package elbv2

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

// loadBalancer is stored under its path, "app/NAME/ID".
type loadBalancer struct {
	Path           string                       `json:"path"`
	Name           string                       `json:"name"`
	Type           types.LoadBalancerTypeEnum   `json:"type"`
	Scheme         types.LoadBalancerSchemeEnum `json:"scheme"`
	IPType         types.IpAddressType          `json:"ipType"`
	Subnets        []string                     `json:"subnets"`
	SecurityGroups []string                     `json:"securityGroups,omitempty"`
	CreatedAt      time.Time                    `json:"createdAt"`
	Address        string                       `json:"address"`
	Attributes     map[string]string            `json:"attributes,omitempty"` // those that were set
	Tags           map[string]string            `json:"tags,omitempty"`
}

// targetGroup is stored under its path, "NAME/ID". Group has what DescribeTargetGroups
// shows but for its load balancers.
type targetGroup struct {
	Path       string            `json:"path"`
	Group      types.TargetGroup `json:"group"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// listener is stored under its load balancer's path, a slash and its ID.
type listener struct {
	Path     string             `json:"path"`
	Balancer string             `json:"balancer"` // its path
	Port     int32              `json:"port"`
	Protocol types.ProtocolEnum `json:"protocol"`
	Actions  []types.Action     `json:"actions"`
	// Certificates are the ARNs of what it presents over TLS, the default one first.
	Certificates []string          `json:"certificates,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
}

// rule is stored under its listener's path, a slash and its ID. The default rule is the
// listener itself.
type rule struct {
	Path       string                `json:"path"`
	Listener   string                `json:"listener"` // its path
	Priority   int32                 `json:"priority"`
	Conditions []types.RuleCondition `json:"conditions"`
	Actions    []types.Action        `json:"actions"`
	Tags       map[string]string     `json:"tags,omitempty"`
}

// target is stored under its group's path, a slash, "ID:PORT".
type target struct {
	Group        string    `json:"group"` // its path
	ID           string    `json:"id"`
	Port         int32     `json:"port"`
	Zone         string    `json:"zone,omitempty"`
	RegisteredAt time.Time `json:"registeredAt"`
	// DrainingSince: it is being deregistered.
	DrainingSince time.Time `json:"drainingSince,omitzero"`
}

// address is stored under itself; it belongs to a load balancer of any account.
type address struct {
	Balancer string `json:"balancer"` // its ARN
}

type tables struct {
	balancers *store.Table[loadBalancer]
	targets   *store.Table[target]
	groupsOf  *store.Table[targetGroup]
	listeners *store.Table[listener]
	rules     *store.Table[rule]
	addresses *store.Table[address]
	// draining: "yes", of targets that are being deregistered.
	draining *store.Index[target]
}

func declareTables(db *store.DB) tables {
	t := tables{
		balancers: store.NewTable[loadBalancer](db, "elbv2.loadbalancers"),
		groupsOf:  store.NewTable[targetGroup](db, "elbv2.targetgroups"),
		listeners: store.NewTable[listener](db, "elbv2.listeners"),
		rules:     store.NewTable[rule](db, "elbv2.rules"),
		targets:   store.NewTable[target](db, "elbv2.targets"),
		addresses: store.NewTable[address](db, "elbv2.addresses"),
	}
	t.draining = store.NewIndex(t.targets, "draining", func(_ store.Scope, _ string, x *target) []string {
		if x.DrainingSince.IsZero() {
			return nil
		}
		return []string{"yes"}
	})
	return t
}

func (x *target) key() string { return fmt.Sprintf("%s/%s:%d", x.Group, x.ID, x.Port) }

// Kinds of resources, as ARNs name them.
const (
	kindBalancer = "loadbalancer"
	kindGroup    = "targetgroup"
	kindListener = "listener"
	kindRule     = "listener-rule"
)

func arnOf(sc store.Scope, kind, path string) string {
	partition := "aws"
	switch {
	case strings.HasPrefix(sc.Region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(sc.Region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return "arn:" + partition + ":elasticloadbalancing:" + sc.Region + ":" + sc.Account + ":" + kind + "/" + path
}

// pathOf reads an ARN of a kind: its path, empty for one of another kind, account or region.
func pathOf(sc store.Scope, kind, arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[0] != "arn" || f[2] != "elasticloadbalancing" || f[3] != sc.Region || f[4] != sc.Account {
		return ""
	}
	path, ok := strings.CutPrefix(f[5], kind+"/")
	parts := map[string]int{kindBalancer: 3, kindGroup: 2, kindListener: 4, kindRule: 5}[kind]
	if !ok || strings.Count(path, "/") != parts-1 {
		return ""
	}
	return path
}

func (b *loadBalancer) arn(sc store.Scope) string { return arnOf(sc, kindBalancer, b.Path) }

func (b *loadBalancer) application() bool { return b.Type == types.LoadBalancerTypeEnumApplication }

// dnsName is the load balancer's name.
func (b *loadBalancer) dnsName(sc store.Scope) string {
	prefix := ""
	if b.Scheme == types.LoadBalancerSchemeEnumInternal {
		prefix = "internal-"
	}
	return strings.ToLower(prefix + b.Name + "-" + b.Path[strings.LastIndexByte(b.Path, '/')+1:] + "." + sc.Region + ".elb.longshore.internal")
}

// derive makes n hex digits that follow from a secret seed.
func derive(seed, label string, n int) string {
	sum := sha256.Sum256([]byte(seed + "\x00" + label))
	return hex.EncodeToString(sum[:])[:n]
}
