package ecs

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// Bounds of what an agent reports: a hostile one must not fill the store.
const (
	maxReasonRunes = 1024
	maxReported    = 200
	maxBindings    = 300
)

// SubmitTaskStateChange takes an agent's report on a task. Reports come late,
// twice and out of order; they are acknowledged all the same.
func (s *Service) SubmitTaskStateChange(ctx context.Context, in *ecs.SubmitTaskStateChangeInput) (*ecs.SubmitTaskStateChangeOutput, error) {
	if deref(in.Task) == "" {
		return nil, errInvalidParameter("The task is not given.")
	}
	r := report{
		Status: strings.ToUpper(deref(in.Status)), Reason: bounded(deref(in.Reason)),
		Containers: in.Containers, Attachments: in.Attachments,
		PullStartedAt: in.PullStartedAt, PullStoppedAt: in.PullStoppedAt, ExecutionStoppedAt: in.ExecutionStoppedAt,
	}
	if err := s.submit(ctx, *in.Task, in.Cluster, r); err != nil {
		return nil, err
	}
	return &ecs.SubmitTaskStateChangeOutput{Acknowledgment: acknowledgment(ctx)}, nil
}

// SubmitContainerStateChange takes an agent's report on one container.
func (s *Service) SubmitContainerStateChange(ctx context.Context, in *ecs.SubmitContainerStateChangeInput) (*ecs.SubmitContainerStateChangeOutput, error) {
	if deref(in.Task) == "" || deref(in.ContainerName) == "" {
		return nil, errInvalidParameter("The task or the container is not given.")
	}
	r := report{Containers: []types.ContainerStateChange{{
		ContainerName: in.ContainerName, Status: in.Status, ExitCode: in.ExitCode, Reason: in.Reason,
		RuntimeId: in.RuntimeId, NetworkBindings: in.NetworkBindings,
	}}}
	if err := s.submit(ctx, *in.Task, in.Cluster, r); err != nil {
		return nil, err
	}
	return &ecs.SubmitContainerStateChangeOutput{Acknowledgment: acknowledgment(ctx)}, nil
}

// SubmitAttachmentStateChanges takes an agent's report on task interfaces.
func (s *Service) SubmitAttachmentStateChanges(ctx context.Context, in *ecs.SubmitAttachmentStateChangesInput) (*ecs.SubmitAttachmentStateChangesOutput, error) {
	if len(in.Attachments) == 0 || len(in.Attachments) > maxReported {
		return nil, errInvalidParameter("attachments must have 1 to %d items.", maxReported)
	}
	sc, snap, node := scopeOf(ctx), s.db.Snapshot(), callerNode(ctx)
	for _, a := range in.Attachments {
		key := s.taskOfAttachment(snap, sc, node, attachmentID(deref(a.AttachmentArn)))
		if key == "" {
			continue // of a task that is over
		}
		if err := s.submitKey(ctx, key, report{Attachments: []types.AttachmentStateChange{a}}); err != nil {
			return nil, err
		}
	}
	return &ecs.SubmitAttachmentStateChangesOutput{Acknowledgment: acknowledgment(ctx)}, nil
}

// taskOfAttachment finds the live task with an interface, on one node or, for
// callers that are none, on any.
func (s *Service) taskOfAttachment(r store.Reader, sc store.Scope, node, id string) string {
	list := s.tasksByStatus.List(r, sc, "live")
	if node != "" {
		list = s.liveByNode.List(r, sc, node)
	}
	for key, t := range list {
		if t.ENI != nil && t.ENI.AttachmentID == id {
			return key
		}
	}
	return ""
}

// callerNode is the node whose agent calls; empty for other principals.
func callerNode(ctx context.Context) string {
	if p := wire.CallFrom(ctx).Principal; p.Kind == wire.PrincipalNode {
		return p.NodeID
	}
	return ""
}

func acknowledgment(ctx context.Context) *string {
	id := wire.CallFrom(ctx).RequestID
	return &id
}

func (s *Service) submit(ctx context.Context, ref string, cluster *string, r report) error {
	sc := scopeOf(ctx)
	name, err := clusterOfMember(sc, ref, cluster)
	if err != nil {
		return err
	}
	id, err := memberID(sc, "task", name, ref)
	if err != nil {
		return err
	}
	return s.submitKey(ctx, memberKey(name, id), r)
}

// submitKey applies a report. One on a task that is not known (any more) is
// acknowledged, so that its agent forgets it.
func (s *Service) submitKey(ctx context.Context, key string, r report) error {
	sc, now, node := scopeOf(ctx), s.now().UTC(), callerNode(ctx)
	if err := r.bound(now); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.tasks.Get(tx, sc, key)
		if !ok {
			return nil
		}
		if node != "" && old.NodeID != node {
			return errAccessDenied("The task %s is not of this node.", old.ID)
		}
		t := s.tasks.Clone(old)
		if !t.apply(r, now) {
			return nil
		}
		if t.LastStatus == taskStopped {
			s.releaseENI(tx, sc, t, now)
		}
		s.tasks.Put(tx, sc, key, t)
		return nil
	})
}

// bound refuses reports beyond reason, shortens their texts and drops what cannot
// be. A refusal makes agents try again for a day: it is for what they never send.
func (r *report) bound(now time.Time) error {
	if len(r.Containers) > maxReported || len(r.Attachments) > maxReported {
		return errInvalidParameter("A report can have at most %d containers and attachments.", maxReported)
	}
	r.Containers = slices.Clone(r.Containers)
	for i := range r.Containers {
		c := &r.Containers[i]
		if len(c.NetworkBindings) > maxBindings {
			return errInvalidParameter("A container can have at most %d network bindings.", maxBindings)
		}
		if len(deref(c.RuntimeId)) > 255 || len(deref(c.ImageDigest)) > 255 {
			return errInvalidParameter("runtimeId and imageDigest can have at most 255 characters.")
		}
		if c.Reason != nil {
			c.Reason = optional(bounded(*c.Reason))
		}
		c.NetworkBindings = possibleBindings(c.NetworkBindings)
	}
	for _, at := range []**time.Time{&r.PullStartedAt, &r.PullStoppedAt, &r.ExecutionStoppedAt} {
		if *at != nil && !plausible(**at, now) {
			*at = nil
		}
	}
	return nil
}

// plausible refuses times that no working clock shows.
func plausible(at, now time.Time) bool {
	return at.After(now.AddDate(-10, 0, 0)) && at.Before(now.AddDate(0, 0, 1))
}

// possibleBindings drops what no network has: the rest of the report counts.
func possibleBindings(list []types.NetworkBinding) []types.NetworkBinding {
	return slices.DeleteFunc(slices.Clone(list), func(b types.NetworkBinding) bool {
		if ip := deref(b.BindIP); ip != "" {
			if _, err := netip.ParseAddr(ip); err != nil {
				return true
			}
		}
		switch b.Protocol {
		case "", types.TransportProtocolTcp, types.TransportProtocolUdp:
		default:
			return true
		}
		return !possiblePorts(b.ContainerPort, b.ContainerPortRange) || !possiblePorts(b.HostPort, b.HostPortRange)
	})
}

// possiblePorts accepts a port or a range "first-last".
func possiblePorts(port *int32, ports *string) bool {
	if deref(ports) == "" {
		return port != nil && *port > 0 && *port <= math.MaxUint16
	}
	first, last, ok := strings.Cut(*ports, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	return ok && err == nil && err2 == nil && from > 0 && from <= to && (port == nil || *port == 0)
}

func bounded(reason string) string {
	if r := []rune(reason); len(r) > maxReasonRunes {
		return string(r[:maxReasonRunes])
	}
	return reason
}
