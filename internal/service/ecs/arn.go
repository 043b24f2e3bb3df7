package ecs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"longshore.dev/longshore/internal/store"
)

// defaultCluster is the cluster that is meant when a call names none.
const defaultCluster = "default"

// partition returns the ARN partition of a region.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	default:
		return "aws"
	}
}

// arnOf builds an ARN of the ECS service: arnOf(s, "cluster", "default").
func arnOf(s store.Scope, kind string, parts ...string) string {
	return serviceARN(s, "ecs", kind+"/"+strings.Join(parts, "/"))
}

func serviceARN(s store.Scope, service, resource string) string {
	return "arn:" + partition(s.Region) + ":" + service + ":" + s.Region + ":" + s.Account + ":" + resource
}

func clusterARN(s store.Scope, cluster string) string { return arnOf(s, "cluster", cluster) }
func taskARN(s store.Scope, cluster, id string) string {
	return arnOf(s, "task", cluster, id)
}
func instanceARN(s store.Scope, cluster, id string) string {
	return arnOf(s, "container-instance", cluster, id)
}
func containerARN(s store.Scope, cluster, taskID, id string) string {
	return arnOf(s, "container", cluster, taskID, id)
}
func taskDefinitionARN(s store.Scope, family string, revision int32) string {
	return arnOf(s, "task-definition", fmt.Sprintf("%s:%d", family, revision))
}

// arnParts is an ECS ARN taken apart: arn:partition:ecs:region:account:Kind/Path…
type arnParts struct {
	Scope store.Scope
	Kind  string
	Path  []string
}

// parseARN takes an ECS ARN apart. ok is false for what is not one.
func parseARN(s string) (arnParts, bool) {
	f := strings.SplitN(s, ":", 6)
	if len(f) != 6 || f[0] != "arn" || f[1] == "" || f[2] != "ecs" {
		return arnParts{}, false
	}
	path := strings.Split(f[5], "/")
	if len(path) < 2 || path[0] == "" {
		return arnParts{}, false
	}
	for _, p := range path[1:] {
		if p == "" {
			return arnParts{}, false
		}
	}
	return arnParts{Scope: store.Scope{Region: f[3], Account: f[4]}, Kind: path[0], Path: path[1:]}, true
}

var nameRE = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,255}$`)

// clusterName reads a cluster reference: nothing, a name, or an ARN of the
// scope's own account and region.
func clusterName(s store.Scope, ref *string) (string, error) {
	if ref == nil || *ref == "" {
		return defaultCluster, nil
	}
	name := *ref
	if strings.HasPrefix(name, "arn:") {
		a, ok := parseARN(name)
		if !ok || a.Kind != "cluster" || len(a.Path) != 1 {
			return "", errInvalidParameter("Invalid identifier: %s", clip(name))
		}
		if a.Scope != s {
			return "", errClusterNotFound()
		}
		name = a.Path[0]
	}
	if !nameRE.MatchString(name) {
		return "", errInvalidParameter("Identifier is for %s: cluster names have up to 255 letters, digits, hyphens and underscores.", clip(name))
	}
	return name, nil
}

var (
	idRE  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	uuRE  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	idLen = "Id length should be one of [32,36]"
)

// memberID reads a reference to a member of a cluster (kind "task" or
// "container-instance"): its id, or its ARN in the long format or, without the
// cluster, in the short one. An ARN of another cluster is an error.
func memberID(s store.Scope, kind, cluster, ref string) (string, error) {
	id := ref
	if strings.HasPrefix(ref, "arn:") {
		a, ok := parseARN(ref)
		if !ok || a.Kind != kind || len(a.Path) > 2 {
			return "", errInvalidParameter("Invalid identifier: %s", clip(ref))
		}
		if a.Scope != s {
			return "", errInvalidParameter("Invalid identifier: %s is not of this account and region.", clip(ref))
		}
		if len(a.Path) == 2 && a.Path[0] != cluster {
			return "", errInvalidParameter("Invalid identifier: Identifier is for cluster %s. Your cluster is %s", clip(a.Path[0]), cluster)
		}
		id = a.Path[len(a.Path)-1]
	}
	if !idRE.MatchString(id) && !uuRE.MatchString(id) {
		word := strings.ReplaceAll(kind, "-instance", "Instance")
		return "", errInvalidParameter("%s%s", word, idLen)
	}
	return id, nil
}

// clusterOfMember returns the cluster that a member's long ARN names, and
// otherwise the cluster of the call. Agents name their own cluster in every
// call, whatever cluster the task belongs to.
func clusterOfMember(s store.Scope, ref string, cluster *string) (string, error) {
	if a, ok := parseARN(ref); ok && len(a.Path) == 2 && a.Scope == s {
		return clusterName(s, &a.Path[0])
	}
	return clusterName(s, cluster)
}

var familyRE = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,255}$`)

// parseDefinitionRef reads "family", "family:revision" or a task definition
// ARN. Revision 0 means the latest active one.
func parseDefinitionRef(s store.Scope, ref string) (family string, revision int32, err error) {
	name := ref
	if strings.HasPrefix(ref, "arn:") {
		rest := strings.SplitN(ref, ":", 6)
		if len(rest) != 6 || rest[2] != "ecs" || !strings.HasPrefix(rest[5], "task-definition/") {
			return "", 0, errInvalidParameter("Invalid identifier: %s", clip(ref))
		}
		if rest[3] != s.Region || rest[4] != s.Account {
			return "", 0, errClient("TaskDefinition not found.")
		}
		name = strings.TrimPrefix(rest[5], "task-definition/")
	}
	family, rev, has := strings.Cut(name, ":")
	if !familyRE.MatchString(family) {
		return "", 0, errClient("Invalid task definition identifier: %s", clip(ref))
	}
	if !has {
		return family, 0, nil
	}
	n, err := strconv.ParseInt(rev, 10, 32)
	if err != nil || n < 1 {
		return "", 0, errClient("Invalid revision number. Number: %s", clip(rev))
	}
	return family, int32(n), nil
}

// clip bounds what a message repeats of the caller's input.
func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
