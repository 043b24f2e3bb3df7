package ecs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// addressRest is how long a released address is not given out again, so that
// the node has taken it down before.
const addressRest = time.Minute

// Subnet is a subnet of the built-in VPC.
type Subnet struct {
	ID   string
	Zone string // "us-east-1a"
	CIDR netip.Prefix
	// Gateway is the subnet's first address.
	Gateway netip.Addr
}

var errNoAddress = errors.New("no address is free in the subnets")

func (v *VPC) complete() error {
	if !v.CIDR.IsValid() {
		v.CIDR = netip.MustParsePrefix("172.31.0.0/16")
	}
	if len(v.Zones) == 0 {
		v.Zones = []string{"a", "b", "c"}
	}
	v.CIDR = v.CIDR.Masked()
	if !v.CIDR.Addr().Is4() || v.CIDR.Bits() > 24 {
		return fmt.Errorf("VPC network %s: an IPv4 network of /24 or larger is needed", v.CIDR)
	}
	if len(v.Zones) > 8 {
		return fmt.Errorf("VPC: %d zones; there can be 8", len(v.Zones))
	}
	return nil
}

// subnet returns the prefix of the i-th zone: a /20 where the network has room
// for it, else an equal share.
func (v *VPC) subnet(i int) netip.Prefix {
	bits := v.CIDR.Bits()
	for 1<<(bits-v.CIDR.Bits()) < len(v.Zones) || bits < 20 {
		bits++
	}
	base := v.CIDR.Addr().As4()
	n := binary.BigEndian.Uint32(base[:]) + uint32(i)<<(32-bits)
	return netip.PrefixFrom(addrOf(n), bits)
}

func addrOf(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// VPCID returns the id of an account's built-in VPC in a region.
func VPCID(account, region string) string {
	return "vpc-" + derive(account, region, 17)
}

// DefaultSecurityGroup returns the id of the built-in VPC's only security group,
// which allows everything.
func DefaultSecurityGroup(account, region string) string {
	return "sg-" + derive(account, region+"\x00default", 17)
}

// Subnets returns the built-in VPC's subnets, one for each zone.
func (s *Service) Subnets(account, region string) []Subnet {
	subnets := make([]Subnet, len(s.deps.VPC.Zones))
	for i, z := range s.deps.VPC.Zones {
		p := s.deps.VPC.subnet(i)
		subnets[i] = Subnet{
			ID: "subnet-" + derive(account, region+"\x00"+z, 17), Zone: region + z,
			CIDR: p, Gateway: p.Addr().Next(),
		}
	}
	return subnets
}

// vpcAttributes are the attributes that tell a node's place in the VPC, where its
// agent did not: the subnet of its zone.
func (s *Service) vpcAttributes(sc store.Scope, n *Node) []types.Attribute {
	var all []types.Attribute
	add := func(name, value string) {
		if attributeValue(n.Attributes, name) == "" {
			all = append(all, types.Attribute{Name: &name, Value: &value})
		}
	}
	for _, subnet := range s.Subnets(sc.Account, sc.Region) {
		if subnet.Zone == n.Zone {
			add("ecs.vpc-id", VPCID(sc.Account, sc.Region))
			add("ecs.subnet-id", subnet.ID)
		}
	}
	return all
}

// checkNetwork applies AWS's rules for a networkConfiguration beside a network mode.
func (s *Service) checkNetwork(sc store.Scope, mode types.NetworkMode, nc *types.NetworkConfiguration) (*types.AwsVpcConfiguration, error) {
	if mode != types.NetworkModeAwsvpc {
		if nc != nil {
			return nil, errInvalidParameter("Network Configuration is not valid for the given networkMode of this task definition.")
		}
		return nil, nil
	}
	if nc == nil || nc.AwsvpcConfiguration == nil {
		return nil, errInvalidParameter("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
	}
	vpc := nc.AwsvpcConfiguration
	switch {
	case len(vpc.Subnets) == 0:
		return nil, errInvalidParameter("subnets can not be empty.")
	case len(vpc.Subnets) > 16:
		return nil, errInvalidParameter("subnets can have at most 16 items.")
	case len(vpc.SecurityGroups) > 5:
		return nil, errInvalidParameter("securityGroups can have at most 5 items.")
	}
	known := s.Subnets(sc.Account, sc.Region)
	for _, id := range vpc.Subnets {
		if !slices.ContainsFunc(known, func(k Subnet) bool { return k.ID == id }) {
			return nil, errInvalidParameter("The subnet ID '%s' does not exist", clip(id))
		}
	}
	for _, id := range vpc.SecurityGroups {
		if id != DefaultSecurityGroup(sc.Account, sc.Region) {
			return nil, errInvalidParameter("The security group '%s' does not exist", clip(id))
		}
	}
	return vpc, nil
}

// allocateENI gives a task its interface: an address of one of the wanted
// subnets, of the node's zone where there is one. The address record guards it.
func (s *Service) allocateENI(tx *store.Tx, sc store.Scope, t *Task, vpc *types.AwsVpcConfiguration, zone, seed string, now time.Time) error {
	var wanted []Subnet
	for _, k := range s.Subnets(sc.Account, sc.Region) {
		if slices.Contains(vpc.Subnets, k.ID) {
			wanted = append(wanted, k)
		}
	}
	slices.SortStableFunc(wanted, func(a, b Subnet) int {
		return boolOrder(b.Zone == zone) - boolOrder(a.Zone == zone)
	})
	for _, subnet := range wanted {
		address, ok := s.freeAddress(tx, sc, subnet, t.ID, now)
		if !ok {
			continue
		}
		s.addresses.Put(tx, sc, subnet.ID+"/"+address.String(), &Address{Task: t.Key()})
		b := address.As4()
		t.ENI = &ENI{
			AttachmentID: deriveUUID(seed, "attachment"), ID: "eni-" + derive(seed, "eni", 17),
			SubnetID: subnet.ID, Address: address.String(),
			MAC:    fmt.Sprintf("0a:58:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]),
			Status: attachmentPrecreated,
		}
		return nil
	}
	return errNoAddress
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

// freeAddress looks for an address from a point that the task's id gives, so
// that concurrent tasks seldom meet. Looking guards nothing; only the address
// that is found is read with a guard.
func (s *Service) freeAddress(tx *store.Tx, sc store.Scope, subnet Subnet, taskID string, now time.Time) (netip.Addr, bool) {
	base := subnet.CIDR.Addr().As4()
	first := binary.BigEndian.Uint32(base[:]) + 4 // AWS keeps the first four and the last
	size := uint32(1)<<(32-subnet.CIDR.Bits()) - 5
	h := fnv.New32a()
	h.Write([]byte(taskID))
	start := h.Sum32() % size
	for i := range size {
		address := addrOf(first + (start+i)%size)
		key := subnet.ID + "/" + address.String()
		if !s.addressFree(tx, sc, key, now) {
			continue
		}
		if a, ok := s.addresses.Get(tx, sc, key); !ok || a.rested(now) {
			return address, true
		}
	}
	return netip.Addr{}, false
}

func (s *Service) addressFree(tx *store.Tx, sc store.Scope, key string, now time.Time) bool {
	for id, a := range s.addresses.ListPrefix(tx, sc, key) {
		return id != key || a.rested(now) // the exact key sorts first
	}
	return true
}

func (a *Address) rested(now time.Time) bool {
	return !a.ReleasedAt.IsZero() && now.Sub(a.ReleasedAt) >= addressRest
}

// releaseENI lets a stopped task's address rest.
func (s *Service) releaseENI(tx *store.Tx, sc store.Scope, t *Task, now time.Time) {
	if t.ENI == nil {
		return
	}
	key := t.ENI.SubnetID + "/" + t.ENI.Address
	if a, ok := s.addresses.Get(tx, sc, key); ok && a.Task == t.Key() && a.ReleasedAt.IsZero() {
		s.addresses.Put(tx, sc, key, &Address{Task: a.Task, ReleasedAt: now})
	}
}

func (s *Service) subnetByID(sc store.Scope, id string) (Subnet, bool) {
	for _, k := range s.Subnets(sc.Account, sc.Region) {
		if k.ID == id {
			return k, true
		}
	}
	return Subnet{}, false
}

// privateDNSName is the name that EC2 gives to an address.
func privateDNSName(region, address string) string {
	return "ip-" + strings.ReplaceAll(address, ".", "-") + "." + privateDomain(region)
}

func privateDomain(region string) string {
	if region == "us-east-1" {
		return "ec2.internal"
	}
	return region + ".compute.internal"
}

func attachmentARN(sc store.Scope, id string) string { return arnOf(sc, "attachment", id) }

// attachmentID returns the id of an attachment's ARN, or what it is given.
func attachmentID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
