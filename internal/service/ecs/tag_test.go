package ecs

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func pairs(tags []types.Tag) (list []string) {
	for _, t := range tags {
		list = append(list, deref(t.Key)+"="+deref(t.Value))
	}
	slices.Sort(list)
	return list
}

func tagList(n int) (tags []types.Tag) {
	for i := range n {
		tags = append(tags, types.Tag{Key: aws.String(fmt.Sprint("k", i)), Value: aws.String("v")})
	}
	return tags
}

func TestTagsOfEverything(t *testing.T) {
	r := newRoom(t)
	instance := r.join("n1", "default", 1024, 1024)
	definition := r.register(plain())
	task := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	for kind, arn := range map[string]string{
		"cluster": clusterARN(testScope, "default"), "task definition": *definition.TaskDefinitionArn,
		"task": task, "container instance": *instance.ContainerInstanceArn,
	} {
		t.Run(kind, func(t *testing.T) {
			shown := func() []string {
				out, err := r.ListTagsForResource(asRoot(), &ecs.ListTagsForResourceInput{ResourceArn: &arn})
				if err != nil {
					t.Fatal(err)
				}
				return pairs(out.Tags)
			}
			put := func(tags ...types.Tag) error {
				_, err := r.TagResource(asRoot(), &ecs.TagResourceInput{ResourceArn: &arn, Tags: tags})
				return err
			}
			if got := shown(); len(got) != 0 {
				t.Errorf("tags before: %v", got)
			}
			if err := put(types.Tag{Key: aws.String("a"), Value: aws.String("1")}, types.Tag{Key: aws.String("b")}); err != nil {
				t.Fatal(err)
			}
			if err := put(types.Tag{Key: aws.String("a"), Value: aws.String("2")}); err != nil {
				t.Fatal(err)
			}
			if got := shown(); !slices.Equal(got, []string{"a=2", "b="}) {
				t.Errorf("tags %v, want a=2 and b", got)
			}
			wantError(t, put(tagList(49)...), "InvalidParameterException", "The number of tags exceeds the limit of 50.")
			if err := put(tagList(48)...); err != nil {
				t.Errorf("50 tags: %v", err)
			}
			if _, err := r.UntagResource(asRoot(), &ecs.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a", "none"}}); err != nil {
				t.Fatal(err)
			}
			if got := shown(); len(got) != 49 || slices.Contains(got, "a=2") {
				t.Errorf("%d tags after the removal of a: %v", len(got), got)
			}
		})
	}
	if tags := r.describe("default", task).Tags; len(tags) != 49 {
		t.Errorf("DescribeTasks shows %d tags", len(tags))
	}
}

func TestTagsAreRefused(t *testing.T) {
	r := newRoom(t)
	r.createCluster(&ecs.CreateClusterInput{})
	const id = "0123456789abcdef0123456789abcdef"
	missing := "The specified resource wasn't found. Specify a valid resource ARN and try again."
	for _, c := range []struct{ name, arn, key, code, message string }{
		{"a reserved key", clusterARN(testScope, "default"), "AWS:x", "InvalidParameterException", "Tag keys can't start with aws:."},
		{"no key", clusterARN(testScope, "default"), "", "InvalidParameterException", "Tag keys have 1 to 128 characters and values up to 256."},
		{"no ARN", "default", "k", "InvalidParameterException", "Invalid identifier: default. Specify a full ARN."},
		{"no cluster", clusterARN(testScope, "no"), "k", "ClusterNotFoundException", "Cluster not found."},
		{"no task", taskARN(testScope, "default", id), "k", "ResourceNotFoundException", missing},
		{"no instance", instanceARN(testScope, "default", id), "k", "ResourceNotFoundException", missing},
		{"no definition", taskDefinitionARN(testScope, "web", 1), "k", "ResourceNotFoundException", missing},
		{"no revision", arnOf(testScope, "task-definition", "web"), "k", "InvalidParameterException", "Invalid identifier: web. Specify a task definition with its revision."},
		{"a service", arnOf(testScope, "service", "default", "web"), "k", "ResourceNotFoundException", missing},
		{"a short ARN", arnOf(testScope, "task", id), "k", "InvalidParameterException", "Long arn format must be used for tagging operations"},
		{"another account", "arn:aws:ecs:eu-west-1:999999999999:cluster/default", "k", "ResourceNotFoundException", missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := r.TagResource(asRoot(), &ecs.TagResourceInput{ResourceArn: &c.arn, Tags: []types.Tag{{Key: &c.key}}})
			wantError(t, err, c.code, c.message)
		})
	}
	_, err := r.UntagResource(asRoot(), &ecs.UntagResourceInput{ResourceArn: aws.String(clusterARN(testScope, "default")), TagKeys: []string{"aws:x"}})
	wantError(t, err, "InvalidParameterException", "Tag keys can't start with aws:.")
}

// ECS's own tags do not count.
func TestManagedTagsDoNotCount(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.register(plain())
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), EnableECSManagedTags: true})
	if _, err := r.TagResource(asRoot(), &ecs.TagResourceInput{ResourceArn: &arn, Tags: tagList(50)}); err != nil {
		t.Fatal(err)
	}
	if tags := r.describe("default", arn).Tags; len(tags) != 51 {
		t.Errorf("%d tags, want 50 and aws:ecs:clusterName", len(tags))
	}
}
