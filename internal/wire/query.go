package wire

import (
	"fmt"
	"net/url"

	"longshore.dev/longshore/internal/wire/codec"
)

// decodeQuery finds an awsQuery operation, which is named in the body or the
// query string, and decodes its input.
func (x *exchange) decodeQuery(body []byte) (*operation, any, *codec.Presence, error) {
	text := string(body)
	if len(body) == 0 {
		text = x.r.URL.RawQuery
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, nil, nil, &Error{Code: "MalformedQueryString", Message: "The query string contains a syntax error.", Status: 404}
	}
	x.operation = values.Get("Action")
	if x.operation == "" {
		return nil, nil, nil, &Error{Code: "MissingAction", Message: "The request is missing an action or a required parameter: Action."}
	}
	version := values.Get("Version")
	if want := x.service.Info.APIVersion; version != "" && version != want {
		return nil, nil, nil, x.unknown(fmt.Sprintf("Could not find operation %s for version %s", clip(x.operation), clip(version)))
	}
	op, err := x.find()
	if err != nil {
		return nil, nil, nil, err
	}
	in, presence := op.newInput(), &codec.Presence{}
	err = x.service.codec.DecodeQuery(values, in, presence)
	return op, in, presence, err
}
