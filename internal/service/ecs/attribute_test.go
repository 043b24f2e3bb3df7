package ecs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func (r *room) listAttributes(in ecs.ListAttributesInput) (list []string) {
	r.t.Helper()
	in.TargetType = types.TargetTypeContainerInstance
	for {
		out, err := r.ListAttributes(asRoot(), &in)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, a := range out.Attributes {
			list = append(list, fmt.Sprintf("%s %s=%s", lastPart(*a.TargetId), *a.Name, deref(a.Value)))
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return list
		}
	}
}

func TestAttributesPlaceTasks(t *testing.T) {
	r := newRoom(t)
	a := r.join("n1", "default", 1024, 1024)
	b := r.join("n2", "default", 1024, 1024)
	stack := func(arn *string, value string) types.Attribute {
		return types.Attribute{Name: aws.String("stack"), Value: &value, TargetId: arn}
	}
	out, err := r.PutAttributes(asRoot(), &ecs.PutAttributesInput{Attributes: []types.Attribute{
		stack(a.ContainerInstanceArn, "test"), stack(b.ContainerInstanceArn, "production"),
	}})
	if err != nil || len(out.Attributes) != 2 || *out.Attributes[1].TargetId != *b.ContainerInstanceArn {
		t.Fatalf("%+v, %v", out, err)
	}
	r.register(plain(func(in *ecs.RegisterTaskDefinitionInput) {
		in.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{Type: "memberOf", Expression: aws.String("attribute:stack == production")}}
	}))
	for range 3 {
		if task := r.describe("default", r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})); *task.ContainerInstanceArn != *b.ContainerInstanceArn {
			t.Errorf("placed on %s, want the production instance", *task.ContainerInstanceArn)
		}
	}
	aID, bID := lastPart(*a.ContainerInstanceArn), lastPart(*b.ContainerInstanceArn)
	if got := r.listAttributes(ecs.ListAttributesInput{AttributeName: aws.String("stack")}); !slices.Equal(got, []string{aID + " stack=test", bID + " stack=production"}) {
		t.Errorf("stacks: %v", got)
	}
	if got := r.listAttributes(ecs.ListAttributesInput{AttributeName: aws.String("stack"), AttributeValue: aws.String("test")}); !slices.Equal(got, []string{aID + " stack=test"}) {
		t.Errorf("stack test: %v", got)
	}
	// In pages it is the same, the agents' attributes included.
	all := r.listAttributes(ecs.ListAttributesInput{})
	if paged := r.listAttributes(ecs.ListAttributesInput{MaxResults: aws.Int32(1)}); !slices.Equal(paged, all) || !slices.Contains(all, bID+" ecs.availability-zone=eu-west-1a") {
		t.Errorf("in pages %v, at once %v", paged, all)
	}
	// By the short id, with the type.
	if _, err := r.DeleteAttributes(asRoot(), &ecs.DeleteAttributesInput{Attributes: []types.Attribute{
		{Name: aws.String("stack"), TargetId: &bID, TargetType: types.TargetTypeContainerInstance},
	}}); err != nil {
		t.Fatal(err)
	}
	if out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web")}); len(out.Tasks) != 0 {
		t.Error("a task was placed on an instance without the attribute")
	}
}

func TestAttributesAreRefused(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	arn := *ci.ContainerInstanceArn
	put := func(attributes ...types.Attribute) error {
		_, err := r.PutAttributes(asRoot(), &ecs.PutAttributesInput{Attributes: attributes})
		return err
	}
	of := func(name, value, target string) types.Attribute {
		return types.Attribute{Name: &name, Value: &value, TargetId: &target}
	}
	missing := instanceARN(testScope, "default", "0123456789abcdef0123456789abcdef")
	for _, c := range []struct {
		name          string
		attribute     types.Attribute
		code, message string
	}{
		{"a name", of("a b", "v", arn), "InvalidParameterException", "Invalid attribute name: a b"},
		{"a value", of("a", " v", arn), "InvalidParameterException", "Invalid attribute value:  v"},
		{"the agent's", of("ecs.os-type", "windows", arn), "InvalidParameterException", "The attribute ecs.os-type is the agent's: names that begin with ecs., com.amazonaws.ecs. or longshore. are reserved."},
		{"our own", of(AttributeUniversal, "true", arn), "InvalidParameterException", ""},
		{"no target", of("a", "v", ""), "InvalidParameterException", "The attribute a has no targetId."},
		{"a short id without type", of("a", "v", lastPart(arn)), "InvalidParameterException", "The attribute a needs a targetType, or a targetId that is a full ARN."},
		{"a missing target", of("a", "v", missing), "TargetNotFoundException", "Could not find the target: " + missing},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, put(c.attribute), c.code, c.message) })
	}
	wantError(t, put(), "InvalidParameterException", "You can specify between 1 and 10 attributes in a single call.")
	wantError(t, put(make([]types.Attribute, 11)...), "InvalidParameterException", "You can specify between 1 and 10 attributes in a single call.")
	var ten []types.Attribute
	for i := range 10 {
		ten = append(ten, of(fmt.Sprint("a", i), "v", arn))
	}
	if err := put(ten...); err != nil {
		t.Fatal(err)
	}
	if err := put(of("a9", "other", arn)); err != nil {
		t.Errorf("changing the tenth attribute: %v", err)
	}
	wantError(t, put(of("more", "v", arn)), "AttributeLimitExceededException", "You can apply up to 10 custom attributes for each resource.")
	if got := r.listAttributes(ecs.ListAttributesInput{AttributeName: aws.String("a9")}); len(got) != 1 || !strings.HasSuffix(got[0], "a9=other") {
		t.Errorf("a9: %v", got)
	}
	_, err := r.DeleteAttributes(asRoot(), &ecs.DeleteAttributesInput{Attributes: []types.Attribute{of("a1", "", arn), of("none", "", arn)}})
	wantError(t, err, "TargetNotFoundException", "The attribute none was not found on the target.")
	if got := r.listAttributes(ecs.ListAttributesInput{AttributeName: aws.String("a1")}); len(got) != 1 {
		t.Error("a refused call deleted one of its attributes")
	}
	_, err = r.ListAttributes(asRoot(), &ecs.ListAttributesInput{TargetType: types.TargetTypeContainerInstance, AttributeValue: aws.String("v")})
	wantError(t, err, "InvalidParameterException", "attributeValue needs an attributeName.")
}
