package ecs

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Service is what agents' sessions take their tasks from.
var _ acs.Source = (*Service)(nil)

func sessionScope(x acs.Session) store.Scope {
	return store.Scope{Account: x.Principal.AccountID, Region: x.Region}
}

// sessionNode finds the node of a session: its instance must be the one that
// the node's agent registered as, and the principal's own. An instance that was
// deregistered is refused, but for a universal node, which serves other clusters.
func (s *Service) sessionNode(r store.Reader, x acs.Session) (*Node, error) {
	sc := sessionScope(x)
	cluster, err := clusterOfMember(sc, x.Instance, optional(x.Cluster))
	if err != nil {
		return nil, err
	}
	id, err := memberID(sc, "container-instance", cluster, x.Instance)
	if err != nil {
		return nil, err
	}
	ci, ok := s.instances.Get(r, sc, memberKey(cluster, id))
	if !ok {
		return nil, acs.ErrInactiveInstance
	}
	if x.Principal.Kind == wire.PrincipalNode && x.Principal.NodeID != ci.NodeID {
		return nil, acs.ErrInactiveInstance // as if it were not there
	}
	n, ok := s.node(r, sc, ci.NodeID)
	if !ok || n.HomeCluster != cluster || n.HomeInstance != id {
		return nil, acs.ErrInactiveInstance
	}
	if ci.Status == statusInactive && !n.Universal {
		return nil, acs.ErrInactiveInstance
	}
	return n, nil
}

// Admit implements acs.Source.
func (s *Service) Admit(_ context.Context, x acs.Session) error {
	_, err := s.sessionNode(s.db.Snapshot(), x)
	return err
}

// Opened implements acs.Source.
func (s *Service) Opened(ctx context.Context, x acs.Session) (acs.Opening, error) {
	s.sessions.Store(x.ID, true)
	var opening acs.Opening
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		n, err := s.sessionNode(tx, x)
		if err != nil {
			return err
		}
		opening.ClusterARN = clusterARN(sessionScope(x), n.HomeCluster)
		return s.setConnected(tx, sessionScope(x), n.ID, true, func(n *Node) bool {
			n.Session = x.ID
			// Above what an earlier store may have given out, and never back.
			n.Sequence = max(n.Sequence+acs.SessionNumbers, s.now().UnixMicro())
			opening.Sequence = n.Sequence
			if v := n.VersionInfo; v == nil || deref(v.AgentVersion) != x.AgentVersion {
				n.VersionInfo = &types.VersionInfo{
					AgentVersion: optional(x.AgentVersion), AgentHash: optional(x.AgentHash), DockerVersion: optional(x.DockerVersion),
				}
			}
			return true
		})
	})
	if err != nil {
		s.sessions.Delete(x.ID)
		s.recheckConnected(x) // it may be written all the same
	}
	return opening, err
}

// recheckConnected has the loop in lost.go see to it that the node of a session is
// not taken for connected that is not.
func (s *Service) recheckConnected(x acs.Session) {
	if n, err := s.sessionNode(s.db.Snapshot(), x); err == nil {
		s.nodeLoop.Add(nodeKey(store.Ref{Scope: sessionScope(x), ID: n.ID}))
	}
}

// Closed implements acs.Source.
func (s *Service) Closed(ctx context.Context, x acs.Session) {
	s.sessions.Delete(x.ID)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		sc := sessionScope(x)
		for _, ci := range s.sessionInstances(tx, x) {
			return s.setConnected(tx, sc, ci.NodeID, false, func(n *Node) bool { return n.Session == x.ID })
		}
		return nil
	})
	if err != nil {
		s.log.Warn("an agent's disconnection was not recorded; it is tried again", "instance", x.Instance, "error", err)
		s.recheckConnected(x)
	}
}

func (s *Service) sessionInstances(r store.Reader, x acs.Session) []*ContainerInstance {
	sc := sessionScope(x)
	if cluster, err := clusterOfMember(sc, x.Instance, optional(x.Cluster)); err == nil {
		if ci, err := s.instance(r, sc, cluster, x.Instance); err == nil {
			return []*ContainerInstance{ci}
		}
	}
	return nil
}

// setConnected records a node's connection, if change agrees. Its tasks'
// connectivity follows from it.
func (s *Service) setConnected(tx *store.Tx, sc store.Scope, node string, connected bool, change func(*Node) bool) error {
	old, ok := s.nodes.Get(tx, sc, node)
	if !ok {
		return nil
	}
	n := s.nodes.Clone(old)
	if !change(n) {
		return nil
	}
	now := s.now().UTC()
	n.Connected, n.ConnectivityAt = connected, now
	if connected {
		n.LostAt = time.Time{}
	}
	s.nodes.Put(tx, sc, node, n)
	return nil
}

// ResetConnectivity marks every node disconnected that has no session with this
// process: what a server that starts knows of its agents, until they connect again.
func (s *Service) ResetConnectivity(ctx context.Context) error {
	var connected []store.Ref
	for ref, n := range s.nodes.ListAll(s.db.Snapshot()) {
		if n.Connected {
			connected = append(connected, ref)
		}
	}
	for batch := range slices.Chunk(connected, resetBatch) {
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			for _, ref := range batch {
				err := s.setConnected(tx, ref.Scope, ref.ID, false, func(n *Node) bool { return n.Connected && !s.serves(n) })
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serves tells whether the node's latest session is one of this process.
func (s *Service) serves(n *Node) bool {
	_, here := s.sessions.Load(n.Session)
	return here
}

// resetBatch is how many nodes one transaction marks disconnected: a thousand
// agents come back at the same time, and each that does makes it look again.
const resetBatch = 250

// Assignments implements acs.Source.
func (s *Service) Assignments(_ context.Context, x acs.Session) ([]acs.Assignment, error) {
	snap := s.db.Snapshot()
	n, err := s.sessionNode(snap, x)
	if err != nil {
		return nil, err
	}
	sc := sessionScope(x)
	var list []acs.Assignment
	for _, t := range s.liveByNode.List(snap, sc, n.ID) {
		list = append(list, s.assignment(snap, x, t))
	}
	slices.SortFunc(list, func(a, b acs.Assignment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.TaskARN, b.TaskARN))
	})
	return list, nil
}

// Assignment implements acs.Source.
func (s *Service) Assignment(_ context.Context, x acs.Session, arn string) (acs.Assignment, bool, error) {
	snap := s.db.Snapshot()
	n, err := s.sessionNode(snap, x)
	if err != nil {
		return acs.Assignment{}, false, err
	}
	sc := sessionScope(x)
	key, _ := taskKeyOf(sc, arn)
	t, ok := s.tasks.Get(snap, sc, key)
	if !ok || t.NodeID != n.ID || t.LastStatus == taskStopped {
		return acs.Assignment{}, false, nil
	}
	return s.assignment(snap, x, t), true, nil
}

func (s *Service) assignment(snap *store.Snapshot, x acs.Session, t *Task) acs.Assignment {
	sc := sessionScope(x)
	return acs.Assignment{
		TaskARN: taskARN(sc, t.Cluster, t.ID), ClusterARN: clusterARN(sc, t.Cluster), CreatedAt: t.CreatedAt,
		Desired: t.agentDesired(), Started: t.reported(),
		Roles:  roleTypes(s.rolesOf(snap, sc, t)),
		Render: func() (acs.Task, error) { return s.render(snap, sc, t, x.Endpoint) },
	}
}

// reported tells whether the agent has said anything of the task.
func (t *Task) reported() bool {
	return slices.Index(taskOrder, t.LastStatus) >= slices.Index(taskOrder, taskRunning) || !t.PullStartedAt.IsZero() || t.ran()
}

// Health implements acs.Source.
func (s *Service) Health(ctx context.Context, x acs.Session, h *acs.PublishHealth) error {
	if len(h.Tasks) > 1000 {
		return errInvalidParameter("A health report can have at most 1000 tasks.")
	}
	n, err := s.sessionNode(s.db.Snapshot(), x)
	if err != nil {
		return err
	}
	sc := sessionScope(x)
	for _, report := range h.Tasks {
		key, ok := taskKeyOf(sc, report.TaskARN)
		if !ok {
			continue
		}
		byName := map[string]types.HealthStatus{}
		for _, c := range report.Containers {
			if status := types.HealthStatus(c.HealthStatus); slices.Contains(status.Values(), status) {
				byName[c.ContainerName] = status
			}
		}
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			old, ok := s.tasks.Get(tx, sc, key)
			if !ok || old.NodeID != n.ID || old.LastStatus == taskStopped {
				return nil
			}
			t := s.tasks.Clone(old)
			if t.setHealth(byName) {
				s.tasks.Put(tx, sc, key, t)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Metrics implements acs.Source. Nobody takes measurements yet: they come with
// the CloudWatch room.
func (s *Service) Metrics(context.Context, acs.Session, *acs.PublishMetrics) error { return nil }

func taskKeyOf(sc store.Scope, arn string) (string, bool) {
	a, ok := parseARN(arn)
	if !ok || a.Kind != "task" || a.Scope != sc || len(a.Path) != 2 {
		return "", false
	}
	return strings.Join(a.Path, "/"), true
}
