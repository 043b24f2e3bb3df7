package elbv2

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/fnv"
	"iter"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

// AWS's limits.
const (
	maxBalancers = 50
	maxDescribe  = 20
	maxPage      = 400
)

var nameRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

func checkName(name string) error {
	if !nameRE.MatchString(name) {
		return fail("ValidationError", "The name '%.40s' must have 1 to 32 letters, digits and hyphens, and cannot begin or end with a hyphen.", name)
	}
	return nil
}

// CreateLoadBalancer makes a load balancer, which is active at once. One that is there
// with the same settings is returned.
func (s *Service) CreateLoadBalancer(ctx context.Context, in *api.CreateLoadBalancerInput) (*api.CreateLoadBalancerOutput, error) {
	sc, id, now := scopeOf(ctx), derive(s.deps.NewID(), "load balancer", 16), s.deps.Now().UTC()
	b, err := s.wantedBalancer(sc, in)
	if err != nil {
		return nil, err
	}
	b.CreatedAt = now
	b.Path = map[types.LoadBalancerTypeEnum]string{types.LoadBalancerTypeEnumApplication: "app/", types.LoadBalancerTypeEnumNetwork: "net/"}[b.Type] + b.Name + "/" + id
	var made *loadBalancer
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		count := 0
		for _, old := range s.balancers.List(tx, sc) {
			if count++; old.Name != b.Name {
				continue
			}
			if old.Type != b.Type || old.Scheme != b.Scheme || !slices.Equal(old.Subnets, b.Subnets) || !slices.Equal(old.SecurityGroups, b.SecurityGroups) || !maps.Equal(old.Tags, b.Tags) {
				return fail("DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", b.Name)
			}
			made = old
			return nil
		}
		if count >= maxBalancers {
			return fail("TooManyLoadBalancers", "The maximum number of load balancers has been reached: %d.", maxBalancers)
		}
		fresh := *b
		if fresh.Address, err = s.allocate(tx, fresh.arn(sc)); err != nil {
			return err
		}
		made = &fresh
		s.balancers.Put(tx, sc, fresh.Path, &fresh)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{s.balancerView(sc, made)}}, nil
}

func (s *Service) wantedBalancer(sc store.Scope, in *api.CreateLoadBalancerInput) (*loadBalancer, error) {
	name := deref(in.Name)
	if err := checkName(name); err != nil {
		return nil, err
	}
	b := &loadBalancer{
		Name: name, Type: cmp.Or(in.Type, types.LoadBalancerTypeEnumApplication), Scheme: cmp.Or(in.Scheme, types.LoadBalancerSchemeEnumInternetFacing),
		IPType: cmp.Or(in.IpAddressType, types.IpAddressTypeIpv4), SecurityGroups: in.SecurityGroups, Subnets: slices.Clone(in.Subnets),
	}
	switch {
	case strings.HasPrefix(name, "internal-"):
		return nil, fail("ValidationError", "Load balancer name cannot begin with 'internal-'")
	case b.Type == types.LoadBalancerTypeEnumGateway:
		return nil, fail("InvalidConfigurationRequest", "Gateway Load Balancers are not supported: use application or network.")
	case b.IPType != types.IpAddressTypeIpv4:
		return nil, fail("InvalidConfigurationRequest", "The IP address type %s is not supported: use ipv4.", b.IPType)
	case deref(in.CustomerOwnedIpv4Pool) != "" || in.IpamPools != nil:
		return nil, fail("InvalidConfigurationRequest", "Pools of addresses are not supported.")
	}
	for _, m := range in.SubnetMappings {
		if m.AllocationId != nil || m.PrivateIPv4Address != nil || m.IPv6Address != nil || m.SourceNatIpv6Prefix != nil {
			return nil, fail("InvalidConfigurationRequest", "Addresses of subnet mappings are not supported: a load balancer has one address of its own.")
		}
		b.Subnets = append(b.Subnets, deref(m.SubnetId))
	}
	if err := s.checkSubnets(sc, b); err != nil {
		return nil, err
	}
	if len(b.SecurityGroups) == 0 && b.application() {
		b.SecurityGroups = []string{s.deps.Network.DefaultSecurityGroup(sc.Account, sc.Region)}
	}
	for _, group := range b.SecurityGroups {
		if group != s.deps.Network.DefaultSecurityGroup(sc.Account, sc.Region) {
			return nil, fail("InvalidSecurityGroup", "The security group '%.60s' does not exist", group)
		}
	}
	var err error
	b.Tags, err = tagged(nil, in.Tags)
	return b, err
}

// checkSubnets refuses subnets that are not there, or too few zones.
func (s *Service) checkSubnets(sc store.Scope, b *loadBalancer) error {
	zones := map[string]bool{}
	for _, id := range b.Subnets {
		subnet, ok := s.subnet(sc, id)
		if !ok {
			return fail("SubnetNotFound", "The subnet ID '%.60s' does not exist. There are %s.", id, s.subnetList(sc))
		}
		if zones[subnet.Zone] {
			return fail("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		}
		zones[subnet.Zone] = true
	}
	switch {
	case len(zones) == 0:
		return fail("ValidationError", "At least one subnet must be specified: there are %s", s.subnetList(sc))
	case b.application() && len(zones) < 2:
		return fail("InvalidConfigurationRequest", "At least two subnets in two different Availability Zones must be specified: there are %s", s.subnetList(sc))
	}
	return nil
}

// subnetList tells which subnets there are.
func (s *Service) subnetList(sc store.Scope) string {
	var all []string
	for _, n := range s.deps.Network.Subnets(sc.Account, sc.Region) {
		all = append(all, n.ID+" ("+n.Zone+")")
	}
	return strings.Join(all, ", ")
}

func (s *Service) subnet(sc store.Scope, id string) (Subnet, bool) {
	for _, subnet := range s.deps.Network.Subnets(sc.Account, sc.Region) {
		if subnet.ID == id {
			return subnet, true
		}
	}
	return Subnet{}, false
}

// allocate finds an address that no load balancer has. It begins where the ARN says, so
// that a name is likely to get its address again.
func (s *Service) allocate(tx *store.Tx, arn string) (string, error) {
	p := s.deps.Addresses.Masked()
	size := uint32(1)<<(32-p.Bits()) - 2
	raw := p.Addr().As4()
	base := binary.BigEndian.Uint32(raw[:])
	h := fnv.New32a()
	h.Write([]byte(arn))
	free := store.Scope{}
	for i := range min(size, 4096) {
		binary.BigEndian.PutUint32(raw[:], base+1+(h.Sum32()+i)%size)
		a := netip.AddrFrom4(raw).String()
		if _, taken := s.addresses.Get(tx, free, a); !taken {
			s.addresses.Put(tx, free, a, &address{Balancer: arn})
			return a, nil
		}
	}
	return "", fail("InsufficientCapacity", "No address is free in %s.", p)
}

func (s *Service) balancerView(sc store.Scope, b *loadBalancer) types.LoadBalancer {
	v := types.LoadBalancer{
		LoadBalancerArn: pointer(b.arn(sc)), LoadBalancerName: &b.Name, DNSName: pointer(b.dnsName(sc)), CanonicalHostedZoneId: pointer("ZLONGSHORELOCAL"),
		CreatedTime: &b.CreatedAt, Scheme: b.Scheme, Type: b.Type, IpAddressType: b.IPType, SecurityGroups: b.SecurityGroups,
		State: &types.LoadBalancerState{Code: types.LoadBalancerStateEnumActive},
	}
	for _, id := range b.Subnets {
		zone := types.AvailabilityZone{SubnetId: pointer(id)}
		if subnet, ok := s.subnet(sc, id); ok {
			zone.ZoneName, v.VpcId = &subnet.Zone, &subnet.VPC
		}
		zone.LoadBalancerAddresses = []types.LoadBalancerAddress{}
		if !b.application() {
			zone.LoadBalancerAddresses = []types.LoadBalancerAddress{{IpAddress: &b.Address}}
		}
		v.AvailabilityZones = append(v.AvailabilityZones, zone)
	}
	return v
}

// balancer finds a load balancer by its ARN.
func (s *Service) balancer(r store.Reader, sc store.Scope, arn string) (*loadBalancer, error) {
	if b, ok := s.balancers.Get(r, sc, pathOf(sc, kindBalancer, arn)); ok {
		return b, nil
	}
	return nil, fail("LoadBalancerNotFound", "Load balancer '%.300s' not found", arn)
}

// DescribeLoadBalancers describes those that are named, or all.
func (s *Service) DescribeLoadBalancers(ctx context.Context, in *api.DescribeLoadBalancersInput) (*api.DescribeLoadBalancersOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	if len(in.LoadBalancerArns) > 0 && len(in.Names) > 0 {
		return nil, fail("ValidationError", "Load balancer names and load balancer ARNs cannot be specified at the same time")
	}
	out := &api.DescribeLoadBalancersOutput{LoadBalancers: []types.LoadBalancer{}}
	for _, arn := range in.LoadBalancerArns {
		b, err := s.balancer(snap, sc, arn)
		if err != nil {
			return nil, err
		}
		out.LoadBalancers = append(out.LoadBalancers, s.balancerView(sc, b))
	}
	for _, name := range in.Names {
		found := false
		for _, b := range s.balancers.List(snap, sc) {
			if b.Name == name {
				out.LoadBalancers, found = append(out.LoadBalancers, s.balancerView(sc, b)), true
			}
		}
		if !found {
			return nil, fail("LoadBalancerNotFound", "One or more load balancers not found")
		}
	}
	if len(in.LoadBalancerArns)+len(in.Names) > 0 {
		return out, nil
	}
	all, marker, err := page(s.balancers.List(snap, sc), in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		out.LoadBalancers = append(out.LoadBalancers, s.balancerView(sc, b))
	}
	out.NextMarker = marker
	return out, nil
}

// page takes a page of items in the order of their keys.
func page[T any](items iter.Seq2[string, T], marker *string, size *int32) (out []T, next *string, err error) {
	n := maxPage
	if size != nil {
		if n = int(*size); n < 1 || n > maxPage {
			return nil, nil, fail("ValidationError", "Page size must be between 1 and %d", maxPage)
		}
	}
	last := ""
	for key, v := range items {
		if marker != nil && key <= *marker {
			continue
		}
		if len(out) == n {
			return out, &last, nil
		}
		out, last = append(out, v), key
	}
	return out, nil, nil
}

// DeleteLoadBalancer removes a load balancer with its listeners. One that is not there is
// no error.
func (s *Service) DeleteLoadBalancer(ctx context.Context, in *api.DeleteLoadBalancerInput) (*api.DeleteLoadBalancerOutput, error) {
	sc := scopeOf(ctx)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		b, ok := s.balancers.Get(tx, sc, pathOf(sc, kindBalancer, deref(in.LoadBalancerArn)))
		if !ok {
			return nil
		}
		if b.attribute("deletion_protection.enabled") == "true" {
			return fail("OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", b.arn(sc))
		}
		for _, l := range s.listeners.ListPrefix(tx, sc, b.Path+"/") {
			s.dropListener(tx, sc, l)
		}
		s.addresses.Delete(tx, store.Scope{}, b.Address)
		s.balancers.Delete(tx, sc, b.Path)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteLoadBalancerOutput{}, nil
}

// SetSubnets replaces a load balancer's subnets.
func (s *Service) SetSubnets(ctx context.Context, in *api.SetSubnetsInput) (*api.SetSubnetsOutput, error) {
	sc := scopeOf(ctx)
	subnets := slices.Clone(in.Subnets)
	for _, m := range in.SubnetMappings {
		subnets = append(subnets, deref(m.SubnetId))
	}
	b, err := s.changeBalancer(ctx, deref(in.LoadBalancerArn), func(b *loadBalancer) error {
		b.Subnets = subnets
		return s.checkSubnets(sc, b)
	})
	if err != nil {
		return nil, err
	}
	return &api.SetSubnetsOutput{AvailabilityZones: s.balancerView(sc, b).AvailabilityZones, IpAddressType: b.IPType}, nil
}

// changeBalancer changes a load balancer's record.
func (s *Service) changeBalancer(ctx context.Context, arn string, change func(*loadBalancer) error) (changed *loadBalancer, err error) {
	sc := scopeOf(ctx)
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		old, err := s.balancer(tx, sc, arn)
		if err != nil {
			return err
		}
		changed = s.balancers.Clone(old)
		if err := change(changed); err != nil {
			return err
		}
		s.balancers.Put(tx, sc, changed.Path, changed)
		return nil
	})
	return changed, err
}

// SetSecurityGroups takes the default group only, until there are others.
func (s *Service) SetSecurityGroups(ctx context.Context, in *api.SetSecurityGroupsInput) (*api.SetSecurityGroupsOutput, error) {
	sc := scopeOf(ctx)
	for _, group := range in.SecurityGroups {
		if group != s.deps.Network.DefaultSecurityGroup(sc.Account, sc.Region) {
			return nil, fail("InvalidSecurityGroup", "The security group '%.60s' does not exist", group)
		}
	}
	b, err := s.changeBalancer(ctx, deref(in.LoadBalancerArn), func(b *loadBalancer) error {
		b.SecurityGroups = in.SecurityGroups
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.SetSecurityGroupsOutput{SecurityGroupIds: b.SecurityGroups}, nil
}
