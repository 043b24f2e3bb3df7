package codec

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/batch"
	batchtypes "github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// model is what a published model says of wire names.
type model struct {
	Operations map[string]struct {
		Input, Output *struct{ Shape string }
	}
	Shapes map[string]shapeModel
}

type shapeModel struct {
	Type      string
	Exception bool
	Flattened bool
	Members   map[string]struct{ Shape, LocationName, Location, QueryName string }
	Member    *struct{ Shape, LocationName string }
	Key       *struct{ Shape, LocationName string }
	Value     *struct{ Shape, LocationName string }
}

func readModel(t *testing.T, service string) *model {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "shared", "aws-models", service, "service-2.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("AWS's published models are not beside the checkout (%s)", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	var m model
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// Every member that the published model has, and that the SDK's type has, gets
// the model's name from the rule and the table; what the model says of lists and
// maps is what the query and XML forms assume.
func TestNamesAgainstPublishedModels(t *testing.T) {
	tests := []struct {
		service    string
		lowerCamel bool
		client     any
		exceptions []any
		unions     []any
	}{
		{"ecs", true, &ecs.Client{}, []any{ecstypes.ConflictException{}, ecstypes.ClientException{}}, []any{
			(*ecstypes.SharingStrategyMemberNvidiaMps)(nil), (*ecstypes.ServiceConnectContainerConfigurationMemberLogLevel)(nil)}},
		{"logs", true, &cloudwatchlogs.Client{}, []any{logstypes.TooManyTagsException{}, logstypes.InvalidSequenceTokenException{}}, []any{
			(*logstypes.IntegrationDetailsMemberOpenSearchIntegrationDetails)(nil), (*logstypes.ResourceConfigMemberOpenSearchResourceConfig)(nil)}},
		{"batch", true, &batch.Client{}, []any{batchtypes.ClientException{}}, nil},
		{"sts", false, &sts.Client{}, nil, nil},
		{"iam", false, &iam.Client{}, []any{iamtypes.NoSuchEntityException{}}, []any{(*iamtypes.PolicyIdentifierMemberPolicyArn)(nil)}},
		{"cloudwatch", false, &cloudwatch.Client{}, []any{cwtypes.DashboardInvalidInputError{}, cwtypes.DashboardNotFoundError{},
			cwtypes.ResourceNotFoundException{}, cwtypes.ResourceNotFound{}, cwtypes.LimitExceededFault{}, cwtypes.LimitExceededException{},
			cwtypes.ConcurrentModificationException{}, cwtypes.ConflictException{}, cwtypes.InternalServiceFault{},
			cwtypes.KmsAccessDeniedException{}, cwtypes.KmsKeyDisabledException{}, cwtypes.KmsKeyNotFoundException{},
			cwtypes.InvalidFormatFault{}, cwtypes.InvalidNextToken{}, cwtypes.InvalidParameterValueException{},
			cwtypes.InvalidParameterCombinationException{}, cwtypes.MissingRequiredParameterException{}}, []any{
			(*cwtypes.EvaluationCriteriaMemberPromQLCriteria)(nil), (*cwtypes.EvaluationWindowMemberSlidingWindow)(nil)}},
	}
	for _, tt := range tests {
		t.Run(tt.service, func(t *testing.T) {
			w := &nameWalk{t: t, model: readModel(t, tt.service), seen: map[reflect.Type]bool{},
				codec: New(Options{Service: tt.service, LowerCamel: tt.lowerCamel, Unions: tt.unions})}
			client := reflect.TypeOf(tt.client)
			for i := range client.NumMethod() {
				m := client.Method(i)
				op, ok := w.model.Operations[m.Name]
				if !ok || m.Type.NumIn() != 4 {
					continue
				}
				if op.Input != nil {
					w.structure(m.Type.In(2).Elem(), op.Input.Shape)
				}
				if op.Output != nil {
					w.structure(m.Type.Out(0).Elem(), op.Output.Shape)
				}
			}
			for _, e := range tt.exceptions {
				w.structure(reflect.TypeOf(e), reflect.TypeOf(e).Name())
			}
			t.Logf("%d members", w.checked)
			if w.checked < 60 {
				t.Errorf("only %d members were checked", w.checked)
			}
		})
	}
}

type nameWalk struct {
	t       *testing.T
	model   *model
	codec   *Codec
	seen    map[reflect.Type]bool
	checked int
}

func (w *nameWalk) structure(typ reflect.Type, shapeName string) {
	sm, ok := w.model.Shapes[shapeName]
	if !ok || w.seen[typ] {
		return
	}
	w.seen[typ] = true
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" || f.Name == "ErrorCodeOverride" {
			continue
		}
		name := w.codec.wireName(typ, f.Name)
		m, ok := sm.Members[name]
		if !ok {
			for other := range sm.Members {
				if strings.EqualFold(other, name) {
					w.t.Errorf("%s.%s is %q on the wire, not %q", typ.Name(), f.Name, other, name)
				}
			}
			continue // the SDK is newer than the models
		}
		w.checked++
		if m.LocationName != "" && m.LocationName != name || m.QueryName != "" {
			w.t.Errorf("%s.%s has another location name: %+v", typ.Name(), f.Name, m)
		}
		w.value(f.Type, m.Shape)
	}
}

func (w *nameWalk) value(typ reflect.Type, shapeName string) {
	sm := w.model.Shapes[shapeName]
	switch {
	case typ.Kind() == reflect.Pointer:
		w.value(typ.Elem(), shapeName)
	case sm.Type == "structure" && typ.Kind() == reflect.Struct:
		w.structure(typ, shapeName)
	case sm.Type == "structure" && typ.Kind() == reflect.Interface:
		w.union(typ, sm)
	case sm.Type == "list" && typ.Kind() == reflect.Slice:
		if sm.Flattened || sm.Member.LocationName != "" && sm.Member.LocationName != "member" {
			w.t.Errorf("list %s is flattened or has elements of another name", shapeName)
		}
		w.value(typ.Elem(), sm.Member.Shape)
	case sm.Type == "map" && typ.Kind() == reflect.Map:
		if sm.Flattened || sm.Key.LocationName != "" || sm.Value.LocationName != "" {
			w.t.Errorf("map %s is flattened or has entries of another name", shapeName)
		}
		w.value(typ.Elem(), sm.Value.Shape)
	}
}

func (w *nameWalk) union(typ reflect.Type, sm shapeModel) {
	for _, v := range w.codec.variants {
		if !v.Implements(typ) {
			continue
		}
		name := w.codec.wireName(typ, strings.TrimPrefix(v.Elem().Name(), typ.Name()+"Member"))
		m, ok := sm.Members[name]
		if !ok {
			w.t.Errorf("union %s has no %q", typ.Name(), name)
			continue
		}
		w.checked++
		f, _ := v.Elem().FieldByName("Value")
		w.value(f.Type, m.Shape)
	}
}
