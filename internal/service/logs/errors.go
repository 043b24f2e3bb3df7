package logs

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/store"
)

func invalid(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.InvalidParameterException{Message: &m}
}

func notFound(message string) error { return &types.ResourceNotFoundException{Message: &message} }

func exists(message string) error { return &types.ResourceAlreadyExistsException{Message: &message} }

func errNoGroup() error { return notFound("The specified log group does not exist.") }

func errNoStream() error { return notFound("The specified log stream does not exist.") }

func errToken() error { return invalid("The specified nextToken is invalid.") }

// stored answers an error of the store or of bulk as AWS would, with the cause
// that an operator needs.
func stored(err error) error {
	var message string
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, store.ErrConflict):
		message = "Multiple concurrent requests to update the same resource were in conflict."
		return &types.OperationAbortedException{Message: &message}
	case errors.Is(err, bulk.ErrFull), errors.Is(err, store.ErrNoSpace):
		message = "The service cannot complete the request: the server's disk is full."
	case errors.Is(err, bulk.ErrFailed), errors.Is(err, bulk.ErrClosed), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrUnavailable):
		message = "The service cannot complete the request: the server's storage is not available."
	case errors.Is(err, bulk.ErrDamaged):
		message = "The service cannot complete the request: stored log events are damaged."
	default:
		return err
	}
	return &types.ServiceUnavailableException{Message: &message}
}
