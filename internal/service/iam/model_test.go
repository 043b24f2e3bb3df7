package iam

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// asRoot is the context of a call by the root user, for tests without HTTP.
func asRoot(ctx context.Context) context.Context {
	return wire.WithCall(ctx, &wire.Call{Account: account, Region: "us-east-1", Service: "iam", Principal: wire.Principal{
		Kind: wire.PrincipalRoot, AccountID: account, UserID: account, ARN: "arn:aws:iam::" + account + ":root",
	}})
}

func codeOf(err error) string {
	var e smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return strings.TrimSuffix(e.ErrorCode(), "Exception")
	}
	return err.Error()
}

// model is what an account's IAM should hold: of each thing, what it refers to.
type model struct {
	users, groups, roles map[string]map[string]bool // attached ("p:"), embedded ("i:"), groups ("g:"), keys ("k:")
	policies             map[string]int             // versions
	profiles             map[string]string          // role
}

func (m *model) book(kind string) map[string]map[string]bool {
	return map[string]map[string]map[string]bool{"user": m.users, "group": m.groups, "role": m.roles}[kind]
}

func (m *model) attached(name string) bool {
	for _, kind := range []map[string]map[string]bool{m.users, m.groups, m.roles} {
		for _, refs := range kind {
			if refs["p:"+name] {
				return true
			}
		}
	}
	return false
}

func (m *model) members(group string) bool {
	for _, refs := range m.users {
		if refs["g:"+group] {
			return true
		}
	}
	return false
}

func (m *model) inProfile(role string) bool {
	for _, held := range m.profiles {
		if held == role {
			return true
		}
	}
	return false
}

// step is one operation on the room and on the model; it returns what the model answers and what the room does.
type step func(ctx context.Context, s *Service, m *model, a, b string) (want string, got error)

// has answers NoSuchEntity for what the model has not.
func has[T any](in map[string]T, names ...string) bool {
	for _, name := range names {
		if _, ok := in[name]; !ok {
			return false
		}
	}
	return true
}

const (
	none   = "NoSuchEntity"
	taken  = "EntityAlreadyExists"
	inUse  = "DeleteConflict"
	excess = "LimitExceeded"
)

func ownARN(name string) *string { return str("arn:aws:iam::" + account + ":policy/" + name) }

var steps = map[string]step{
	"CreateUser": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.CreateUser(ctx, &api.CreateUserInput{UserName: &a})
		return m.create(m.users, a), err
	},
	"CreateGroup": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.CreateGroup(ctx, &api.CreateGroupInput{GroupName: &a})
		return m.create(m.groups, a), err
	},
	"CreateRole": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.CreateRole(ctx, &api.CreateRoleInput{RoleName: &a, AssumeRolePolicyDocument: str(trustEC2)})
		return m.create(m.roles, a), err
	},
	"DeleteUser": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.DeleteUser(ctx, &api.DeleteUserInput{UserName: &a})
		return m.drop(m.users, a, false), err
	},
	"DeleteGroup": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.DeleteGroup(ctx, &api.DeleteGroupInput{GroupName: &a})
		return m.drop(m.groups, a, m.members(a)), err
	},
	"DeleteRole": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.DeleteRole(ctx, &api.DeleteRoleInput{RoleName: &a})
		return m.drop(m.roles, a, m.inProfile(a)), err
	},
	"UpdateUser": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.UpdateUser(ctx, &api.UpdateUserInput{UserName: &a, NewUserName: &b})
		switch {
		case !has(m.users, a):
			return none, err
		case a != b && has(m.users, b):
			return taken, err
		}
		refs := m.users[a]
		delete(m.users, a)
		m.users[b] = refs
		return "", err
	},
	"CreatePolicy": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.CreatePolicy(ctx, &api.CreatePolicyInput{PolicyName: &a, PolicyDocument: str(allowAll)})
		if has(m.policies, a) {
			return taken, err
		}
		m.policies[a] = 1
		return "", err
	},
	"CreatePolicyVersion": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.CreatePolicyVersion(ctx, &api.CreatePolicyVersionInput{PolicyArn: ownARN(a), PolicyDocument: str(allowAll)})
		switch {
		case !has(m.policies, a):
			return none, err
		case m.policies[a] == 5:
			return excess, err
		}
		m.policies[a]++
		return "", err
	},
	"DeletePolicy": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.DeletePolicy(ctx, &api.DeletePolicyInput{PolicyArn: ownARN(a)})
		switch {
		case !has(m.policies, a):
			return none, err
		case m.attached(a) || m.policies[a] > 1:
			return inUse, err
		}
		delete(m.policies, a)
		return "", err
	},
	"AttachUserPolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.AttachUserPolicy(ctx, &api.AttachUserPolicyInput{UserName: &a, PolicyArn: ownARN(b)})
		return m.attach(m.users, a, b), err
	},
	"AttachGroupPolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.AttachGroupPolicy(ctx, &api.AttachGroupPolicyInput{GroupName: &a, PolicyArn: ownARN(b)})
		return m.attach(m.groups, a, b), err
	},
	"AttachRolePolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.AttachRolePolicy(ctx, &api.AttachRolePolicyInput{RoleName: &a, PolicyArn: ownARN(b)})
		return m.attach(m.roles, a, b), err
	},
	"DetachUserPolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.DetachUserPolicy(ctx, &api.DetachUserPolicyInput{UserName: &a, PolicyArn: ownARN(b)})
		return m.unref(m.users, a, "p:"+b), err
	},
	"DetachRolePolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.DetachRolePolicy(ctx, &api.DetachRolePolicyInput{RoleName: &a, PolicyArn: ownARN(b)})
		return m.unref(m.roles, a, "p:"+b), err
	},
	"PutRolePolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.PutRolePolicy(ctx, &api.PutRolePolicyInput{RoleName: &a, PolicyName: &b, PolicyDocument: str(allowAll)})
		if !has(m.roles, a) {
			return none, err
		}
		m.roles[a]["i:"+b] = true
		return "", err
	},
	"DeleteRolePolicy": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.DeleteRolePolicy(ctx, &api.DeleteRolePolicyInput{RoleName: &a, PolicyName: &b})
		return m.unref(m.roles, a, "i:"+b), err
	},
	"AddUserToGroup": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.AddUserToGroup(ctx, &api.AddUserToGroupInput{UserName: &a, GroupName: &b})
		if !has(m.users, a) || !has(m.groups, b) {
			return none, err
		}
		m.users[a]["g:"+b] = true
		return "", err
	},
	"RemoveUserFromGroup": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.RemoveUserFromGroup(ctx, &api.RemoveUserFromGroupInput{UserName: &a, GroupName: &b})
		if !has(m.groups, b) {
			return none, err
		}
		return m.unref(m.users, a, "g:"+b), err
	},
	"CreateInstanceProfile": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.CreateInstanceProfile(ctx, &api.CreateInstanceProfileInput{InstanceProfileName: &a})
		if has(m.profiles, a) {
			return taken, err
		}
		m.profiles[a] = ""
		return "", err
	},
	"AddRoleToInstanceProfile": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.AddRoleToInstanceProfile(ctx, &api.AddRoleToInstanceProfileInput{InstanceProfileName: &a, RoleName: &b})
		switch {
		case !has(m.profiles, a) || !has(m.roles, b):
			return none, err
		case m.profiles[a] != "":
			return excess, err
		}
		m.profiles[a] = b
		return "", err
	},
	"RemoveRoleFromInstanceProfile": func(ctx context.Context, s *Service, m *model, a, b string) (string, error) {
		_, err := s.RemoveRoleFromInstanceProfile(ctx, &api.RemoveRoleFromInstanceProfileInput{InstanceProfileName: &a, RoleName: &b})
		if !has(m.profiles, a) || !has(m.roles, b) || m.profiles[a] != b {
			return none, err
		}
		m.profiles[a] = ""
		return "", err
	},
	"DeleteInstanceProfile": func(ctx context.Context, s *Service, m *model, a, _ string) (string, error) {
		_, err := s.DeleteInstanceProfile(ctx, &api.DeleteInstanceProfileInput{InstanceProfileName: &a})
		switch {
		case !has(m.profiles, a):
			return none, err
		case m.profiles[a] != "":
			return inUse, err
		}
		delete(m.profiles, a)
		return "", err
	},
}

func (m *model) create(book map[string]map[string]bool, name string) string {
	if has(book, name) {
		return taken
	}
	book[name] = map[string]bool{}
	return ""
}

func (m *model) drop(book map[string]map[string]bool, name string, used bool) string {
	switch {
	case !has(book, name):
		return none
	case used || len(book[name]) > 0:
		return inUse
	}
	delete(book, name)
	return ""
}

func (m *model) attach(book map[string]map[string]bool, name, policy string) string {
	if !has(book, name) || !has(m.policies, policy) {
		return none
	}
	book[name]["p:"+policy] = true
	return ""
}

func (m *model) unref(book map[string]map[string]bool, name, ref string) string {
	if !has(book, name) || !book[name][ref] {
		return none
	}
	delete(book[name], ref)
	return ""
}

// same compares the whole of the room with the model.
func (m *model) same(t *testing.T, s *Service) {
	t.Helper()
	r, sc := s.snapshot(), accountScope(account)
	for _, b := range []*book{s.users, s.groups, s.roles} {
		got := map[string]map[string]bool{}
		for _, i := range b.table.List(r, sc) {
			refs := map[string]bool{}
			for name := range i.Inline {
				refs["i:"+name] = true
			}
			for _, arn := range i.Attached {
				refs["p:"+arn[strings.LastIndexByte(arn, '/')+1:]] = true
			}
			for _, id := range i.Groups {
				refs["g:"+s.groups.find(r, sc, id).Name] = true
			}
			got[i.Name] = refs
		}
		equal(t, b.noun+"s", got, m.book(b.noun))
	}
	versions, profiles := map[string]int{}, map[string]string{}
	for _, p := range s.policies.List(r, sc) {
		versions[p.Name] = len(p.Versions)
	}
	for _, p := range s.profiles.List(r, sc) {
		profiles[p.Name] = ""
		if p.Role != "" {
			profiles[p.Name] = s.roles.find(r, sc, p.Role).Name
		}
	}
	equal(t, "policies", versions, m.policies)
	equal(t, "instance profiles", profiles, m.profiles)
}

// TestRandomOperationsAgreeWithAModel runs random operations on few names, and
// compares every answer and now and then all that is stored.
func TestRandomOperationsAgreeWithAModel(t *testing.T) {
	var names []string
	for name := range steps {
		names = append(names, name)
	}
	slices.Sort(names)
	answers := map[string]int{}
	for seed := range uint64(8) {
		s, ctx := newRoom(t).Service, asRoot(t.Context())
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := &model{map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]int{}, map[string]string{}}
		things := []string{"a", "b", "c"}
		var trace []string
		for n := range 2000 {
			op, a, b := names[rnd.IntN(len(names))], things[rnd.IntN(3)], things[rnd.IntN(3)]
			trace = append(trace, fmt.Sprintf("%s %s %s", op, a, b))
			want, err := steps[op](ctx, s, m, a, b)
			if got := codeOf(err); got != want {
				t.Fatalf("seed %d: %s: got %q, want %q; before it\n%s", seed, trace[n], got, want, strings.Join(trace[max(0, n-30):n], "\n"))
			}
			answers[op+" "+want]++
			if n%100 == 0 {
				m.same(t, s)
			}
		}
		m.same(t, s)
	}
	for _, answer := range []string{"DeleteRole " + inUse, "DeleteGroup " + inUse, "DeletePolicy " + inUse, "DeletePolicy ", "DeleteUser ", "CreatePolicyVersion " + excess} {
		if answers[answer] == 0 {
			t.Errorf("no run came to the answer %q", answer)
		}
	}
}

// TestRacingWritersKeepReferencesWhole lets one make a reference while the other
// deletes what it refers to: one of them has to fail.
func TestRacingWritersKeepReferencesWhole(t *testing.T) {
	s, ctx := newRoom(t).Service, asRoot(t.Context())
	call := func(_ any, err error) error { return err }
	n := str("n")
	for name, race := range map[string]struct {
		prepare   func() []error
		refer     func() error
		remove    func() error
		unprepare func() // whichever won
	}{
		"attaching a policy": {
			func() []error {
				return []error{call(s.CreateRole(ctx, &api.CreateRoleInput{RoleName: n, AssumeRolePolicyDocument: str(trustEC2)})),
					call(s.CreatePolicy(ctx, &api.CreatePolicyInput{PolicyName: n, PolicyDocument: str(allowAll)}))}
			},
			func() error {
				return call(s.AttachRolePolicy(ctx, &api.AttachRolePolicyInput{RoleName: n, PolicyArn: ownARN("n")}))
			},
			func() error { return call(s.DeletePolicy(ctx, &api.DeletePolicyInput{PolicyArn: ownARN("n")})) },
			func() {
				_, _ = s.DetachRolePolicy(ctx, &api.DetachRolePolicyInput{RoleName: n, PolicyArn: ownARN("n")})
				_, _ = s.DeletePolicy(ctx, &api.DeletePolicyInput{PolicyArn: ownARN("n")})
				_, _ = s.DeleteRole(ctx, &api.DeleteRoleInput{RoleName: n})
			},
		},
		"bounding by a policy": {
			func() []error {
				return []error{call(s.CreatePolicy(ctx, &api.CreatePolicyInput{PolicyName: n, PolicyDocument: str(allowAll)}))}
			},
			func() error {
				return call(s.CreateUser(ctx, &api.CreateUserInput{UserName: n, PermissionsBoundary: ownARN("n")}))
			},
			func() error { return call(s.DeletePolicy(ctx, &api.DeletePolicyInput{PolicyArn: ownARN("n")})) },
			func() {
				_, _ = s.DeleteUser(ctx, &api.DeleteUserInput{UserName: n})
				_, _ = s.DeletePolicy(ctx, &api.DeletePolicyInput{PolicyArn: ownARN("n")})
			},
		},
		"joining a group": {
			func() []error {
				return []error{call(s.CreateUser(ctx, &api.CreateUserInput{UserName: n})), call(s.CreateGroup(ctx, &api.CreateGroupInput{GroupName: n}))}
			},
			func() error {
				return call(s.AddUserToGroup(ctx, &api.AddUserToGroupInput{UserName: n, GroupName: n}))
			},
			func() error { return call(s.DeleteGroup(ctx, &api.DeleteGroupInput{GroupName: n})) },
			func() {
				_, _ = s.RemoveUserFromGroup(ctx, &api.RemoveUserFromGroupInput{UserName: n, GroupName: n})
				_, _ = s.DeleteGroup(ctx, &api.DeleteGroupInput{GroupName: n})
				_, _ = s.DeleteUser(ctx, &api.DeleteUserInput{UserName: n})
			},
		},
		"a role in an instance profile": {
			func() []error {
				return []error{call(s.CreateRole(ctx, &api.CreateRoleInput{RoleName: n, AssumeRolePolicyDocument: str(trustEC2)})),
					call(s.CreateInstanceProfile(ctx, &api.CreateInstanceProfileInput{InstanceProfileName: n}))}
			},
			func() error {
				return call(s.AddRoleToInstanceProfile(ctx, &api.AddRoleToInstanceProfileInput{RoleName: n, InstanceProfileName: n}))
			},
			func() error { return call(s.DeleteRole(ctx, &api.DeleteRoleInput{RoleName: n})) },
			func() {
				_, _ = s.RemoveRoleFromInstanceProfile(ctx, &api.RemoveRoleFromInstanceProfileInput{RoleName: n, InstanceProfileName: n})
				_, _ = s.DeleteRole(ctx, &api.DeleteRoleInput{RoleName: n})
				_, _ = s.DeleteInstanceProfile(ctx, &api.DeleteInstanceProfileInput{InstanceProfileName: n})
			},
		},
		"a key of a user": {
			func() []error { return []error{call(s.CreateUser(ctx, &api.CreateUserInput{UserName: n}))} },
			func() error { return call(s.CreateAccessKey(ctx, &api.CreateAccessKeyInput{UserName: n})) },
			func() error { return call(s.DeleteUser(ctx, &api.DeleteUserInput{UserName: n})) },
			func() {
				for id := range s.keys.List(s.snapshot(), store.Scope{}) {
					_, _ = s.DeleteAccessKey(ctx, &api.DeleteAccessKeyInput{UserName: n, AccessKeyId: &id})
				}
				_, _ = s.DeleteUser(ctx, &api.DeleteUserInput{UserName: n})
			},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			won := [2]int{}
			for range 60 {
				if err := errors.Join(race.prepare()...); err != nil {
					t.Fatal(err)
				}
				var referred, removed error
				var both sync.WaitGroup
				both.Go(func() { referred = race.refer() })
				both.Go(func() { removed = race.remove() })
				both.Wait()
				if (referred == nil) == (removed == nil) {
					t.Fatalf("the reference: %v; the removal: %v", referred, removed)
				}
				if referred == nil {
					won[0]++
				} else {
					won[1]++
				}
				race.unprepare()
			}
			t.Logf("the reference came first %d times, the removal %d times", won[0], won[1])
		})
	}
}
