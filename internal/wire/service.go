package wire

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"longshore.dev/longshore/internal/wire/codec"
)

// DefaultMaxBodyBytes bounds a request's body where its service does not say.
const DefaultMaxBodyBytes = 8 << 20

// Registry holds the services that are served and the chain that their calls
// pass. Services and operations are added before the first call, and not later.
type Registry struct {
	chain    Chain
	services map[string]*Service
	// routes by what a request shows of its service
	byTarget  map[string]*Service
	bySigning map[string]*Service
}

// NewRegistry returns an empty registry. Credentials, Authorizer, Now, NewID and
// Log of the chain are required: there is no open mode.
func NewRegistry(chain Chain) *Registry {
	if chain.Credentials == nil || chain.Authorizer == nil || chain.Now == nil || chain.NewID == nil || chain.Log == nil {
		panic("wire: a chain needs Credentials, Authorizer, Now, NewID and Log")
	}
	return &Registry{
		chain:     chain,
		services:  map[string]*Service{},
		byTarget:  map[string]*Service{},
		bySigning: map[string]*Service{},
	}
}

// Service is a service in a registry; operations are added to it with Handle.
type Service struct {
	Info  ServiceInfo
	codec *codec.Codec
	ops   map[string]*operation
	rest  []*restRoute
}

// Add registers a service. It panics when the description is incomplete or
// collides with another service's: both are programming errors.
func (r *Registry) Add(info ServiceInfo) *Service {
	if info.Name == "" || len(info.Protocols) == 0 {
		panic("wire: a service needs a name and protocols")
	}
	if info.SigningName == "" {
		info.SigningName = info.Name
	}
	if info.IAMPrefix == "" {
		info.IAMPrefix = info.SigningName
	}
	if info.MaxBodyBytes == 0 {
		info.MaxBodyBytes = DefaultMaxBodyBytes
	}
	s := &Service{
		Info: info,
		codec: codec.New(codec.Options{
			Service: info.Name, LowerCamel: info.LowerCamel,
			Unions: info.Unions, NewDocument: info.NewDocument,
		}),
		ops: map[string]*operation{},
	}
	claim(r.services, info.Name, s)
	claim(r.bySigning, info.SigningName, s)
	if info.TargetPrefix != "" {
		claim(r.byTarget, info.TargetPrefix, s)
	}
	return s
}

func claim(m map[string]*Service, key string, s *Service) {
	if old := m[key]; old != nil {
		panic(fmt.Sprintf("wire: services %s and %s both claim %q", old.Info.Name, s.Info.Name, key))
	}
	m[key] = s
}

// Operations returns the names of a service's registered operations, sorted.
func (r *Registry) Operations(service string) []string {
	s := r.services[service]
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.ops))
}

// Services returns the names of the registered services, sorted.
func (r *Registry) Services() []string { return slices.Sorted(maps.Keys(r.services)) }

// Codec returns the codec of the service's types, for rooms that keep what a
// client gave in its wire form.
func (s *Service) Codec() *codec.Codec { return s.codec }

// operation is a registered Operation without its type parameters.
type operation struct {
	name       string
	action     string
	readOnly   bool
	newInput   func() any
	resources  func(ctx context.Context, in any) []string
	conditions func(ctx context.Context, in any) map[string][]string
	also       func(ctx context.Context, in any) []Permission
	run        func(ctx context.Context, in any) (any, error)
}

// Handle registers fn as the operation op of s. It panics when op was registered
// before or the codec cannot handle its types: both are programming errors.
func Handle[I, O any](s *Service, op Operation[I], fn func(context.Context, *I) (*O, error)) {
	o := &operation{
		name:     op.Name,
		action:   op.Action,
		readOnly: op.ReadOnly,
		newInput: func() any { return new(I) },
		run: func(ctx context.Context, in any) (any, error) {
			out, err := fn(ctx, in.(*I))
			if err != nil {
				return nil, err
			}
			if out == nil {
				out = new(O)
			}
			return out, nil
		},
	}
	if o.action == "" {
		o.action = s.Info.IAMPrefix + ":" + op.Name
	}
	if op.Resources != nil {
		o.resources = func(ctx context.Context, in any) []string { return op.Resources(ctx, in.(*I)) }
	}
	if op.Conditions != nil {
		o.conditions = func(ctx context.Context, in any) map[string][]string { return op.Conditions(ctx, in.(*I)) }
	}
	if op.Also != nil {
		o.also = func(ctx context.Context, in any) []Permission { return op.Also(ctx, in.(*I)) }
	}
	s.add(o, reflect.TypeFor[I](), reflect.TypeFor[O]())
	if op.Path != "" {
		s.rest = append(s.rest, newRestRoute(o, op.Method, op.Path, op.Query))
	}
}

func (s *Service) add(o *operation, in, out reflect.Type) {
	if o.name == "" || s.ops[o.name] != nil {
		panic(fmt.Sprintf("wire: %s operation %q is registered twice or has no name", s.Info.Name, o.name))
	}
	if err := s.codec.Prepare(in, out); err != nil {
		panic(fmt.Sprintf("wire: %s %s: %v", s.Info.Name, o.name, err))
	}
	s.ops[o.name] = o
}

// Invoke calls an operation from inside the server. It passes the same chain as
// a client's call, under principal p, so that no room is a way around IAM.
func Invoke[I, O any](ctx context.Context, r *Registry, p Principal, account, region, service, operation string, in *I) (*O, error) {
	s := r.services[service]
	if s == nil {
		return nil, fmt.Errorf("wire: invoke %s %s: no such service", service, operation)
	}
	op := s.ops[operation]
	if op == nil {
		return nil, fmt.Errorf("wire: invoke %s: no operation %s", service, operation)
	}
	if _, ok := op.newInput().(*I); !ok {
		return nil, fmt.Errorf("wire: invoke %s %s: input is a %T", service, operation, in)
	}
	call := &Call{
		RequestID: r.chain.NewID(), Account: account, Region: region,
		Service: service, Operation: operation, Principal: p, Secure: true, Time: r.chain.Now(),
	}
	if caller, ok := ctx.Value(callKey{}).(*Call); ok {
		call.Via = append(slices.Clone(caller.Via), caller.Service+".amazonaws.com")
	}
	out, err := r.call(ctx, call, op, in, nil)
	if err != nil {
		return nil, err
	}
	typed, ok := out.(*O)
	if !ok {
		return nil, fmt.Errorf("wire: invoke %s %s: output is a %T", service, operation, out)
	}
	return typed, nil
}
