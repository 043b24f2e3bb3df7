package wire

import (
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/batch"
)

func TestRestPaths(t *testing.T) {
	routes := map[string]*restRoute{
		"list":  newRestRoute(nil, "GET", "/v1/tags/{resourceArn}", nil),
		"jobs":  newRestRoute(nil, "POST", "/v1/describejobs", nil),
		"inner": newRestRoute(nil, "GET", "/v1/a/{x}/b/{y}", nil),
	}
	tests := []struct {
		route, path string
		want        map[string]string // nil: no match
	}{
		{"jobs", "/v1/describejobs", map[string]string{}},
		{"jobs", "/v1/describejobs/", map[string]string{}},
		{"jobs", "/v1/describejobs/x", nil},
		{"jobs", "/v1/DescribeJobs", nil},
		{"jobs", "/v1", nil},
		{"list", "/v1/tags/arn%3Aaws%3Abatch%3A%3Ajob%2Fx", map[string]string{"resourceArn": "arn:aws:batch::job/x"}},
		{"list", "/v1/tags/arn:aws:batch::job/x/y", map[string]string{"resourceArn": "arn:aws:batch::job/x/y"}},
		{"list", "/v1/tags/", nil},
		{"inner", "/v1/a/1/b/2", map[string]string{"x": "1", "y": "2"}},
		{"inner", "/v1/a/1/c/2", nil},
	}
	for _, tt := range tests {
		s := &Service{rest: []*restRoute{routes[tt.route]}}
		m := matchRest(s, httptest.NewRequest(routes[tt.route].method, tt.path, nil))
		switch {
		case m == nil && tt.want != nil:
			t.Errorf("%s does not match %s", tt.path, tt.route)
		case m != nil && !reflect.DeepEqual(m.labels, tt.want):
			t.Errorf("%s: labels %v, want %v", tt.path, m.labels, tt.want)
		}
	}
}

// A label and a query parameter that are no members are a client's error, and
// do not change the input.
func TestBindUnknownMember(t *testing.T) {
	m := &restMatch{route: &restRoute{}, labels: map[string]string{"nonsense": "x"}}
	if err := m.bind(codecOf(5), httptest.NewRequest("GET", "/", nil), &batch.ListTagsForResourceInput{}); err == nil {
		t.Error("bound a label that is no member")
	}
}
