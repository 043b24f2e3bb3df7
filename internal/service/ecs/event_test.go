package ecs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/events"
)

// What happens is told in EventBridge's shape: the details are what the API shows, with
// dates.
func TestEvents(t *testing.T) {
	bus := events.New()
	r := newRoom(t, func(d *Deps) { d.Events = bus })
	sub, err := bus.Subscribe(testAccount, testRegion)
	if err != nil {
		t.Fatal(err)
	}
	ci := r.join("n1", "default", 100_000, 100_000)
	r.define(simple("web", 1, 6))
	r.create(1)
	r.settle()
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(0)})
	r.settle()
	bus.Close()
	seen, ids := map[string][]map[string]any{}, map[string]bool{}
	for e := range sub.Events() {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Version, ID, Source, Account, Region, Time string
			DetailType                                 string `json:"detail-type"`
			Resources                                  []string
			Detail                                     map[string]any
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if got.Version != "0" || got.Source != "aws.ecs" || got.Account != testAccount || got.Region != testRegion || len(got.Resources) != 1 || ids[got.ID] || got.ID == "" {
			t.Errorf("%s", raw)
		}
		ids[got.ID] = true
		seen[got.DetailType] = append(seen[got.DetailType], got.Detail)
	}
	date := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	var states []string
	for _, d := range seen["ECS Task State Change"] {
		if state := fmt.Sprint(d["lastStatus"], "/", d["desiredStatus"]); len(states) == 0 || states[len(states)-1] != state {
			states = append(states, state)
		}
		if !date.MatchString(fmt.Sprint(d["createdAt"])) || !date.MatchString(fmt.Sprint(d["updatedAt"])) || !strings.HasPrefix(fmt.Sprint(d["taskArn"]), "arn:aws:ecs:") || d["group"] != "service:svc" {
			t.Errorf("the detail is %v", d)
		}
	}
	if got := strings.Join(states, " "); !strings.HasPrefix(got, "PENDING/RUNNING RUNNING/RUNNING ") || !strings.HasSuffix(got, " STOPPED/STOPPED") {
		t.Errorf("the task was %s", got)
	}
	if all := seen["ECS Container Instance State Change"]; len(all) == 0 || all[0]["containerInstanceArn"] != *ci.ContainerInstanceArn {
		t.Errorf("instances: %v", all)
	}
	var names []string
	for _, kind := range []string{"ECS Deployment State Change", "ECS Service Action"} {
		for _, d := range seen[kind] {
			names = append(names, fmt.Sprint(d["eventType"], " ", d["eventName"]))
		}
	}
	if got := strings.Join(names, ", "); got != "INFO SERVICE_DEPLOYMENT_IN_PROGRESS, INFO SERVICE_DEPLOYMENT_COMPLETED, INFO SERVICE_STEADY_STATE, INFO SERVICE_STEADY_STATE" {
		t.Errorf("services: %s", got)
	}
}

// A service that finds no place says so, once.
func TestEventOfAServiceWithoutAPlace(t *testing.T) {
	bus := events.New()
	r := newRoom(t, func(d *Deps) { d.Events = bus })
	sub, err := bus.Subscribe(testAccount, testRegion)
	if err != nil {
		t.Fatal(err)
	}
	r.join("n1", "default", 100, 1)
	r.define(simple("web", 1, 600))
	r.create(1)
	for range 3 {
		r.keep()
	}
	bus.Close()
	told := 0
	for e := range sub.Events() {
		if d, ok := e.Detail.(map[string]any); ok && d["eventName"] == "SERVICE_TASK_PLACEMENT_FAILURE" {
			told++
			if d["eventType"] != "ERROR" || d["reason"] == "" {
				t.Errorf("%v", d)
			}
		}
	}
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
}
