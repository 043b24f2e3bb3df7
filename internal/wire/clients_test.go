package wire

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecsdocument "github.com/aws/aws-sdk-go-v2/service/ecs/document"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// peer is a service with AWS's own client for it.
type peer struct {
	info   ServiceInfo
	client func(endpoint string) any
	// skip names the operations that are not simple calls: event streams, and
	// the ones that AWS lets anyone make unsigned.
	skip string
}

func peers() []peer {
	hc, creds := testHTTPClient(), testCredentials()
	return []peer{
		{
			info: ServiceInfo{
				Name: "ecs", TargetPrefix: "AmazonEC2ContainerServiceV20141113", Protocols: []Protocol{AWSJSON11}, LowerCamel: true,
				NewDocument: func(v any) any { return ecsdocument.NewLazyDocument(v) },
				Unions:      ecsUnions(),
			},
			client: func(url string) any {
				return ecs.New(ecs.Options{Region: testRegion, BaseEndpoint: &url, Credentials: creds, HTTPClient: hc, Retryer: aws.NopRetryer{}})
			},
		},
		{
			info: ServiceInfo{
				Name: "logs", TargetPrefix: "Logs_20140328", Protocols: []Protocol{AWSJSON11}, LowerCamel: true,
				Unions: []any{
					(*logstypes.IntegrationDetailsMemberOpenSearchIntegrationDetails)(nil),
					(*logstypes.ResourceConfigMemberOpenSearchResourceConfig)(nil),
				},
			},
			client: func(url string) any {
				return cloudwatchlogs.New(cloudwatchlogs.Options{Region: testRegion, BaseEndpoint: &url, Credentials: creds, HTTPClient: hc, Retryer: aws.NopRetryer{}})
			},
			skip: " GetLogObject StartLiveTail ",
		},
		{
			info: ServiceInfo{
				Name: "cloudwatch", SigningName: "monitoring", TargetPrefix: "GraniteServiceVersion20100801", LowerCamel: false,
				Protocols: []Protocol{RPCV2CBOR, AWSJSON10, AWSQuery}, APIVersion: "2010-08-01", QueryErrors: true,
				Unions: []any{
					(*cwtypes.EvaluationCriteriaMemberPromQLCriteria)(nil),
					(*cwtypes.EvaluationWindowMemberSlidingWindow)(nil),
					(*cwtypes.EvaluationWindowMemberWallClockWindow)(nil),
				},
				ErrorCodes: map[string]ErrorCode{
					"ResourceNotFound":           {Code: "ResourceNotFound", Status: 404},
					"DashboardInvalidInputError": {Code: "InvalidParameterInput", Status: 400},
				},
			},
			client: func(url string) any {
				return cloudwatch.New(cloudwatch.Options{Region: testRegion, BaseEndpoint: &url, Credentials: creds, HTTPClient: hc, Retryer: aws.NopRetryer{}})
			},
		},
		{
			info: ServiceInfo{
				Name: "sts", Protocols: []Protocol{AWSQuery}, APIVersion: "2011-06-15", XMLNamespace: "https://sts.amazonaws.com/doc/2011-06-15/",
			},
			client: func(url string) any {
				return sts.New(sts.Options{Region: testRegion, BaseEndpoint: &url, Credentials: creds, HTTPClient: hc, Retryer: aws.NopRetryer{}})
			},
			skip: " AssumeRoleWithSAML AssumeRoleWithWebIdentity ",
		},
		{
			info: ServiceInfo{
				Name: "iam", Protocols: []Protocol{AWSQuery}, APIVersion: "2010-05-08", XMLNamespace: "https://iam.amazonaws.com/doc/2010-05-08/",
				Unions: iamUnions(),
			},
			client: func(url string) any {
				return iam.New(iam.Options{Region: testRegion, BaseEndpoint: &url, Credentials: creds, HTTPClient: hc, Retryer: aws.NopRetryer{}})
			},
		},
		{
			info: ServiceInfo{Name: "batch", Protocols: []Protocol{RestJSON1}, LowerCamel: true},
			client: func(url string) any {
				return batch.New(batch.Options{Region: testRegion, BaseEndpoint: &url, Credentials: creds, HTTPClient: hc, Retryer: aws.NopRetryer{}})
			},
		},
	}
}

// relay is a fake operation: it keeps its input and answers as it is told.
type relay struct {
	in  any
	out any
	err error
}

// method is a client's method by reflection.
type method struct {
	name    string
	in, out reflect.Type
	call    reflect.Value
}

func (p *peer) methods(client any) []method {
	var all []method
	v := reflect.ValueOf(client)
	for i := range v.NumMethod() {
		name, t := v.Type().Method(i).Name, v.Method(i).Type()
		if t.NumIn() != 3 || t.NumOut() != 2 || !strings.HasSuffix(t.In(1).String(), "."+name+"Input") || strings.Contains(p.skip, " "+name+" ") {
			continue
		}
		all = append(all, method{name, t.In(1).Elem(), t.Out(0).Elem(), v.Method(i)})
	}
	return all
}

// register adds a relay for every operation that a client has.
func (p *peer) register(reg *Registry, methods []method) map[string]*relay {
	s := reg.Add(p.info)
	relays := map[string]*relay{}
	for _, m := range methods {
		r := &relay{}
		relays[m.name] = r
		o := &operation{
			name: m.name, action: "x:" + m.name,
			newInput: func() any { return reflect.New(m.in).Interface() },
			run: func(_ context.Context, in any) (any, error) {
				r.in = in
				return r.out, r.err
			},
		}
		s.add(o, m.in, m.out)
		if p.info.Protocols[0] == RestJSON1 {
			verb, path, query := restBinding(m.name)
			s.rest = append(s.rest, newRestRoute(o, verb, path, query))
		}
	}
	return relays
}

// restBinding is batch's: all operations but three are a POST to their name.
func restBinding(name string) (verb, path string, query []string) {
	const tags = "/v1/tags/{resourceArn}"
	switch name {
	case "ListTagsForResource":
		return "GET", tags, nil
	case "TagResource":
		return "POST", tags, nil
	case "UntagResource":
		return "DELETE", tags, []string{"tagKeys"}
	}
	return "POST", "/v1/" + strings.ToLower(name), nil
}

// AWS's own clients call every operation of every service with random inputs and
// get random outputs: both arrive as they were sent.
func TestRoundTripsWithSDKClients(t *testing.T) {
	for _, p := range peers() {
		t.Run(p.info.Name, func(t *testing.T) {
			t.Parallel()
			reg := NewRegistry(testChain(t.Output()))
			methods := p.methods(p.client("http://127.0.0.1:1"))
			relays := p.register(reg, methods)
			methods = p.methods(p.client(serve(t, reg).URL))
			if len(methods) < 9 {
				t.Fatalf("only %d methods", len(methods))
			}
			failures := 0
			for _, m := range methods {
				for seed := range uint64(3) {
					if !roundTrip(t, &p, m, relays[m.name], seed) {
						failures++
						break
					}
				}
				if failures > 10 {
					t.Fatal("too many failures")
				}
			}
			t.Logf("%d operations", len(methods))
		})
	}
}

func roundTrip(t *testing.T, p *peer, m method, r *relay, seed uint64) bool {
	t.Helper()
	xml := p.info.Protocols[0] == AWSQuery
	f := &filler{rng: rand.New(rand.NewPCG(seed, uint64(len(m.name)))), unions: p.info.Unions, controls: !xml, emptyMaps: !xml, full: true}
	in, out := reflect.New(m.in), reflect.New(m.out)
	f.fill(in.Elem(), 0)
	if untag, ok := in.Interface().(*batch.UntagResourceInput); ok {
		// An empty list has no form in a query string, and the SDK's signer
		// sorts the values.
		untag.TagKeys = []string{f.text()}
	}
	f.full = seed%2 == 0
	f.fill(out.Elem(), 0)
	r.in, r.out, r.err = nil, out.Interface(), nil
	results := m.call.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
	if err, _ := results[1].Interface().(error); err != nil {
		t.Errorf("%s seed %d: %v", m.name, seed, err)
		return false
	}
	if d := differ(in, reflect.ValueOf(r.in), m.name+"Input"); d != "" {
		t.Errorf("seed %d: %s", seed, d)
		return false
	}
	if d := differ(out, results[0], m.name+"Output"); d != "" {
		t.Errorf("seed %d: %s", seed, d)
		return false
	}
	return true
}

func ecsUnions() []any {
	return []any{
		(*ecstypes.DescribeGatewayConfigurationMemberHostSharedAlb)(nil),
		(*ecstypes.GatewayConfigurationMemberHostSharedAlb)(nil),
		(*ecstypes.GatewayConnectionResourcesMemberHostSharedAlb)(nil),
		(*ecstypes.GatewayElbAccessLogDestinationMemberS3)(nil),
		(*ecstypes.GatewayInfrastructureResourcesMemberHostSharedAlb)(nil),
		(*ecstypes.GatewayRouteResourcesMemberHostSharedAlb)(nil),
		(*ecstypes.ServiceConnectContainerConfigurationMemberLogLevel)(nil),
		(*ecstypes.SharingStrategyMemberNvidiaMps)(nil),
		(*ecstypes.UpdateGatewayConfigurationMemberHostSharedAlb)(nil),
	}
}

func iamUnions() []any {
	return []any{
		(*iamtypes.PolicyIdentifierMemberInlinePolicyIdentifier)(nil),
		(*iamtypes.PolicyIdentifierMemberPolicyArn)(nil),
		(*iamtypes.PolicyIdentifierMemberPolicyType)(nil),
	}
}
