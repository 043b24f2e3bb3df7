package ecs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

const (
	// maxCallAttributes is how many attributes one call can name, and how many of
	// its own a resource can have beside those of its agent.
	maxCallAttributes   = 10
	maxCustomAttributes = 10
)

var attributeValueRE = regexp.MustCompile(`^[a-zA-Z0-9_.@/\\:-]([a-zA-Z0-9_.@/\\: -]{0,126}[a-zA-Z0-9_.@/\\:-])?$`)

// PutAttributes sets attributes of container instances.
func (s *Service) PutAttributes(ctx context.Context, in *ecs.PutAttributesInput) (*ecs.PutAttributesOutput, error) {
	for _, a := range in.Attributes {
		if v := deref(a.Value); v != "" && !attributeValueRE.MatchString(v) {
			return nil, errInvalidParameter("Invalid attribute value: %s", clip(v))
		}
	}
	changed, err := s.changeAttributes(ctx, in.Cluster, in.Attributes, func(own []types.Attribute, a types.Attribute) ([]types.Attribute, error) {
		own = mergeAttributes(own, []types.Attribute{{Name: a.Name, Value: optional(deref(a.Value))}})
		if len(own) > maxCustomAttributes {
			return nil, &types.AttributeLimitExceededException{
				Message: optional("You can apply up to 10 custom attributes for each resource."),
			}
		}
		return own, nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.PutAttributesOutput{Attributes: changed}, nil
}

// DeleteAttributes removes attributes of container instances. One that is not
// there is an error, as is a value that is not the attribute's.
func (s *Service) DeleteAttributes(ctx context.Context, in *ecs.DeleteAttributesInput) (*ecs.DeleteAttributesOutput, error) {
	changed, err := s.changeAttributes(ctx, in.Cluster, in.Attributes, func(own []types.Attribute, a types.Attribute) ([]types.Attribute, error) {
		i := slices.IndexFunc(own, func(o types.Attribute) bool {
			return deref(o.Name) == deref(a.Name) && (deref(a.Value) == "" || deref(a.Value) == deref(o.Value))
		})
		if i < 0 {
			return nil, errTarget("The attribute %s was not found on the target.", clip(deref(a.Name)))
		}
		return slices.Delete(own, i, i+1), nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.DeleteAttributesOutput{Attributes: changed}, nil
}

func errTarget(format string, args ...any) error {
	return &types.TargetNotFoundException{Message: optional(fmt.Sprintf(format, args...))}
}

// changeAttributes applies change to the target of each attribute, in one
// transaction, and returns the attributes with their targets' ARNs.
func (s *Service) changeAttributes(ctx context.Context, cluster *string, attributes []types.Attribute,
	change func(own []types.Attribute, a types.Attribute) ([]types.Attribute, error)) ([]types.Attribute, error) {
	if n := len(attributes); n == 0 || n > maxCallAttributes {
		return nil, errInvalidParameter("You can specify between 1 and %d attributes in a single call.", maxCallAttributes)
	}
	for _, a := range attributes {
		if err := checkOwnAttribute(a); err != nil {
			return nil, err
		}
	}
	sc := scopeOf(ctx)
	var changed []types.Attribute
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		changed = []types.Attribute{}
		c, err := s.cluster(tx, sc, cluster)
		if err != nil {
			return err
		}
		for _, a := range attributes {
			old, err := s.attributeTarget(tx, sc, c.Name, a)
			if err != nil {
				return err
			}
			ci := s.instances.Clone(old)
			if ci.Attributes, err = change(ci.Attributes, a); err != nil {
				return err
			}
			ci.Version++
			s.instances.Put(tx, sc, ci.Key(), ci)
			changed = append(changed, types.Attribute{
				Name: a.Name, Value: a.Value, TargetId: optional(instanceARN(sc, c.Name, ci.ID)),
			})
		}
		return nil
	})
	return changed, err
}

// checkOwnAttribute refuses names that are not valid, or that are the agent's.
func checkOwnAttribute(a types.Attribute) error {
	name := deref(a.Name)
	switch {
	case !attributeNameRE.MatchString(name):
		return errInvalidParameter("Invalid attribute name: %s", clip(name))
	case agentAttribute(name):
		return errInvalidParameter("The attribute %s is the agent's: names that begin with ecs., com.amazonaws.ecs. or longshore. are reserved.", clip(name))
	case deref(a.TargetId) == "":
		return errInvalidParameter("The attribute %s has no targetId.", clip(name))
	case a.TargetType == "" && !strings.HasPrefix(*a.TargetId, "arn:"):
		return errInvalidParameter("The attribute %s needs a targetType, or a targetId that is a full ARN.", clip(name))
	case a.TargetType != "" && a.TargetType != types.TargetTypeContainerInstance:
		return errInvalidParameter("Invalid targetType: %s", clip(string(a.TargetType)))
	}
	return nil
}

// attributeTarget finds the container instance that an attribute is for.
func (s *Service) attributeTarget(tx *store.Tx, sc store.Scope, cluster string, a types.Attribute) (*ContainerInstance, error) {
	id, err := memberID(sc, "container-instance", cluster, *a.TargetId)
	if err != nil {
		return nil, err
	}
	ci, ok := s.instances.Get(tx, sc, memberKey(cluster, id))
	if !ok || ci.Status == statusInactive {
		return nil, errTarget("Could not find the target: %s", clip(*a.TargetId))
	}
	return ci, nil
}

// ListAttributes lists the attributes of a cluster's container instances, their
// agents' included.
func (s *Service) ListAttributes(ctx context.Context, in *ecs.ListAttributesInput) (*ecs.ListAttributesOutput, error) {
	if in.TargetType != types.TargetTypeContainerInstance {
		return nil, errInvalidParameter("Invalid targetType: %s", clip(string(in.TargetType)))
	}
	name, value := deref(in.AttributeName), deref(in.AttributeValue)
	if value != "" && name == "" {
		return nil, errInvalidParameter("attributeValue needs an attributeName.")
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	shown := map[string]types.Attribute{}
	keys := func(yield func(string) bool) {
		for _, ci := range s.instances.ListPrefix(snap, sc, c.Name+"/") {
			n, ok := s.nodeOf(snap, sc, ci)
			if !ok || ci.Status == statusInactive {
				continue
			}
			all := instanceAttributes(n, ci)
			slices.SortFunc(all, func(a, b types.Attribute) int { return strings.Compare(*a.Name, *b.Name) })
			for _, a := range all {
				if name != "" && deref(a.Name) != name || value != "" && deref(a.Value) != value {
					continue
				}
				key := ci.ID + " " + deref(a.Name)
				a.TargetId = optional(instanceARN(sc, c.Name, ci.ID))
				shown[key] = a
				if !yield(key) {
					return
				}
			}
		}
	}
	found, token, err := page(keys, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListAttributesOutput{Attributes: []types.Attribute{}, NextToken: token}
	for _, key := range found {
		out.Attributes = append(out.Attributes, shown[key])
	}
	return out, nil
}
