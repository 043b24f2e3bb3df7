package ecs

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// revision is a version of a service, which AWS calls a service revision. It is stored
// under the service's key, a slash and its ID, is made with its deployment, and never changes.
type revision struct {
	ID        string    `json:"id"` // the digits of the deployment's
	CreatedAt time.Time `json:"createdAt"`
	version
	// Alternate is as the deployment's.
	Alternate bool `json:"alternate,omitempty"`
}

// revision is what a deployment is a way to.
func (d *deployment) revision(created time.Time) *revision {
	return &revision{ID: d.revisionID(), CreatedAt: created, version: d.version, Alternate: d.Alternate}
}

// release is the way of a service from the revisions that it had to another, which AWS
// calls a service deployment. It is stored under the service's key, a slash and its ID.
// While it goes on, the service has its ID in Release; the loop in service_loop.go, and the
// operations that begin and stop one, write it.
type release struct {
	ID      string   `json:"id"`
	Cluster string   `json:"cluster"`
	Service string   `json:"service"`
	Target  string   `json:"target"` // a revision's ID
	Sources []string `json:"sources,omitempty"`

	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	StoppedAt  time.Time `json:"stoppedAt,omitzero"`
	UpdatedAt  time.Time `json:"updatedAt"`

	Status        types.ServiceDeploymentStatus `json:"status"`
	Reason        string                        `json:"reason,omitempty"`
	Rollback      *releaseRollback              `json:"rollback,omitempty"`
	Configuration types.DeploymentConfiguration `json:"configuration"`
	// Desired, Failed and Threshold are what they were at its end; Tripped: the
	// breaker ended it.
	Desired   int32 `json:"desired,omitempty"`
	Failed    int   `json:"failed,omitempty"`
	Threshold int   `json:"threshold,omitempty"`
	Tripped   bool  `json:"tripped,omitempty"`
	// Shift is how far its traffic has come; nil for a rolling one.
	Shift *shift `json:"shift,omitempty"`
}

// releaseRollback is a release's return to a revision.
type releaseRollback struct {
	Revision  string    `json:"revision"`
	Reason    string    `json:"reason"`
	StartedAt time.Time `json:"startedAt"`
}

// How many releases of a service are kept, and for how long, as in AWS.
const (
	maxReleases = 100
	releaseLife = 90 * 24 * time.Hour
)

// Texts of a release's status.
const (
	reasonSuperseded = "Service deployment stopped because a newer service deployment started."
	reasonDeleted    = "Service deployment stopped because the service was deleted."
	reasonRequested  = "Service deployment rolled back because of a StopServiceDeployment request."
	reasonBreaker    = "Service deployment rolled back because the circuit breaker threshold was exceeded."
	reasonFailed     = "Service deployment failed because the circuit breaker threshold was exceeded."
	reasonHook       = "Service deployment rolled back because a lifecycle hook failed, timed out or asked for it."
	reasonNoSource   = "Service deployment stopped on request; there is no earlier revision to return to."
)

func (x *release) key() string { return memberKey(x.Cluster, x.Service) + "/" + x.ID }

// over tells whether a release has come to its end.
func (x *release) over() bool {
	switch x.Status {
	case types.ServiceDeploymentStatusSuccessful, types.ServiceDeploymentStatusStopped,
		types.ServiceDeploymentStatusRollbackSuccessful, types.ServiceDeploymentStatusRollbackFailed:
		return true
	}
	return false
}

// end notes the end of a release, and how the service was then.
func (x *release) end(r *serviceRecord, status types.ServiceDeploymentStatus, reason string, now time.Time) {
	x.Status, x.UpdatedAt = status, now
	if reason != "" {
		x.Reason = reason
	}
	if status == types.ServiceDeploymentStatusStopped {
		x.StoppedAt = now
	}
	x.FinishedAt = now
	x.Desired, x.Failed, x.Threshold = r.Desired, r.failedOf(x.Target), r.breakerThreshold()
}

// revisionID is the deployment's revision: the digits of its ID.
func (d *deployment) revisionID() string { return strings.TrimPrefix(d.ID, deploymentPrefix) }

// failedOf is how many tasks of a revision failed, as far as it has a deployment.
func (s *serviceRecord) failedOf(revision string) int {
	for i := range s.Deployments {
		if s.Deployments[i].revisionID() == revision {
			return s.Deployments[i].Failed
		}
	}
	return 0
}

// releaseID is an id of the form that AWS gives: 21 characters, of which some are - and _.
func releaseID(hexadecimal string) string {
	raw, _ := hex.DecodeString(hexadecimal)
	return base64.RawURLEncoding.EncodeToString(raw)[:21]
}

// release begins the release of the service's first deployment; what went on is over.
func (s *Service) release(tx *store.Tx, sc store.Scope, r *serviceRecord, id string, now time.Time) {
	before, _ := s.releases.Get(tx, sc, r.Key()+"/"+r.Release)
	way := r.beginShift(before, now)
	s.endRelease(tx, sc, r, types.ServiceDeploymentStatusStopped, reasonSuperseded, now)
	d := &r.Deployments[0]
	s.revisions.Put(tx, sc, r.Key()+"/"+d.revisionID(), d.revision(now))
	x := &release{
		ID: id, Cluster: r.Cluster, Service: r.Name, Target: d.revisionID(), CreatedAt: now, UpdatedAt: now,
		Status: types.ServiceDeploymentStatusPending, Configuration: r.Configuration, Shift: way,
	}
	for i := range r.Deployments[1:] {
		x.Sources = append(x.Sources, r.Deployments[i+1].revisionID())
	}
	r.Release = id
	s.releases.Put(tx, sc, x.key(), x)
	s.pruneReleases(tx, sc, r, now)
}

// endRelease ends what goes on of a service.
func (s *Service) endRelease(tx *store.Tx, sc store.Scope, r *serviceRecord, status types.ServiceDeploymentStatus, reason string, now time.Time) {
	s.ofRelease(tx, sc, r, func(x *release) { x.end(r, status, reason, now) })
}

// ofRelease changes the release that goes on, if one does.
func (s *Service) ofRelease(tx *store.Tx, sc store.Scope, r *serviceRecord, change func(*release)) {
	old, ok := s.releases.Get(tx, sc, r.Key()+"/"+r.Release)
	if !ok || old.over() {
		return
	}
	x := s.releases.Clone(old)
	change(x)
	s.releases.Put(tx, sc, x.key(), x)
}

// pruneReleases forgets the oldest releases, and revisions that are in none that is left.
func (s *Service) pruneReleases(tx *store.Tx, sc store.Scope, r *serviceRecord, now time.Time) {
	all := s.releasesOf(tx, sc, r.Key())
	needed := map[string]bool{}
	for i := range r.Deployments {
		needed[r.Deployments[i].revisionID()] = true
	}
	if r.Completed != nil {
		needed[r.Completed.ID] = true
	}
	for i, x := range all {
		if x.over() && (i >= maxReleases || now.Sub(x.CreatedAt) >= releaseLife) {
			s.releases.Delete(tx, sc, x.key())
			continue
		}
		needed[x.Target] = true
		for _, id := range x.Sources {
			needed[id] = true
		}
		if x.Rollback != nil {
			needed[x.Rollback.Revision] = true
		}
	}
	for key, v := range s.revisions.ListPrefix(tx, sc, r.Key()+"/") {
		if !needed[v.ID] {
			s.revisions.Delete(tx, sc, key)
		}
	}
}
