package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/acs"
)

// credentialsWait is how long a container waits for the credentials of its task's
// roles: they come with the task, and after a restart of the agent with its session.
const credentialsWait = 5 * time.Minute

// vault holds the credentials of the node's tasks' roles, in memory alone: the disk
// keeps their ids. An agent that begins is sent all of them again.
type vault struct {
	now func() time.Time

	mu    sync.Mutex
	roles map[roleKey]*heldRole
	// served are the roles whose credentials are handed to tasks, by their id.
	served map[string]roleKey
}

// roleKey is a role of a task: its type is acs.RoleTask or acs.RoleExecution.
type roleKey struct{ task, kind string }

type heldRole struct {
	id string
	// credentials is nil until they have come, which closes came.
	credentials *acs.Credentials
	expires     time.Time
	came        chan struct{}
}

func newVault(now func() time.Time) *vault {
	return &vault{now: now, roles: map[roleKey]*heldRole{}, served: map[string]roleKey{}}
}

// expect makes room for the credentials of a task's roles.
func (v *vault) expect(r *record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for kind, id := range r.Roles {
		v.open(roleKey{r.ID, kind}, id)
	}
}

// open returns a role; v.mu is held.
func (v *vault) open(key roleKey, id string) *heldRole {
	held := v.roles[key]
	if held == nil {
		held = &heldRole{id: id, came: make(chan struct{})}
		v.roles[key] = held
		if key.kind == acs.RoleTask {
			v.served[id] = key
		}
	}
	return held
}

// put takes credentials. The id under which a task was told to ask for them stays.
func (v *vault) put(key roleKey, c *acs.Credentials) error {
	expires, err := time.Parse(time.RFC3339, c.Expiration)
	if err != nil || c.CredentialsID == "" || c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return errors.New("the credentials are incomplete")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	held := v.open(key, c.CredentialsID)
	if held.credentials == nil {
		close(held.came)
	}
	held.credentials, held.expires = c, expires
	return nil
}

// drop forgets the credentials of a task's roles.
func (v *vault) drop(task string, kinds ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, kind := range kinds {
		key := roleKey{task, kind}
		if held := v.roles[key]; held != nil {
			delete(v.served, held.id)
			delete(v.roles, key)
		}
	}
}

// serves tells whether an id is that of credentials that a task may ask for.
func (v *vault) serves(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.served[id]
	return ok
}

// byID returns the credentials that an id names, nil while they have not come, and
// the task that may have them; false when there are none.
func (v *vault) byID(id string) (c *acs.Credentials, task string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, ok := v.served[id]
	if !ok {
		return nil, "", false
	}
	return v.roles[key].credentials, key.task, true
}

// await returns when the credentials of all of a task's roles have come.
func (v *vault) await(ctx context.Context, r *record) error {
	late, cancel := context.WithTimeout(ctx, credentialsWait)
	defer cancel()
	for kind := range r.Roles {
		v.mu.Lock()
		held := v.roles[roleKey{r.ID, kind}]
		v.mu.Unlock()
		if held == nil {
			continue // dropped: the task is over
		}
		select {
		case <-held.came:
		case <-late.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the control plane did not send credentials of the task's roles within %s: is it running, and is this node connected to it?", credentialsWait)
		}
	}
	return nil
}

// errNoCredentials is a role whose credentials have not come, or have ended.
var errNoCredentials = errors.New("there are no valid credentials of the role")

// retrieve returns a role's credentials, if they are valid.
func (v *vault) retrieve(key roleKey) (aws.Credentials, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	held := v.roles[key]
	if held == nil || held.credentials == nil || !held.expires.After(v.now()) {
		return aws.Credentials{}, errNoCredentials
	}
	c := held.credentials
	return aws.Credentials{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
		Source: "role of the task", CanExpire: true, Expires: held.expires,
	}, nil
}
