package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// failure is an error of one of the contract's kinds whose text is the cause's
// own: ECS shows that text to the user, so the kind does not repeat itself in it.
type failure struct {
	kind  error
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error { return []error{f.kind, f.cause} }

// fail makes an error of a kind, with fmt.Errorf's formats.
func fail(kind error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{kind: kind, text: err.Error(), cause: err}
}

// kindOf finds which of the contract's errors a registry's answer amounts to.
func kindOf(err error) error {
	for _, kind := range []error{ErrNotFound, ErrUnauthorized, ErrCorrupt, ErrPlatform, ErrInvalid, ErrUnavailable} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	if _, ok := errors.AsType[*statusError](err); ok {
		return ErrUnavailable
	}
	if errors.Is(err, docker.ErrInvalidAuthorization) {
		return ErrUnauthorized
	}
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return ErrUnauthorized
		case http.StatusNotFound:
			return ErrNotFound
		}
		return ErrUnavailable
	}
	if errdefs.IsNotFound(err) {
		return ErrNotFound
	}
	return ErrUnavailable
}

// isExpired tells of a token that was good before.
func isExpired(err error) bool {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	return ok && status.StatusCode == http.StatusUnauthorized || errors.Is(err, docker.ErrInvalidAuthorization)
}

// isFull tells whether err is a disk without space, inodes or quota.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// diskError says what to do about a full disk, after the text that ECS shows.
func diskError(err error) error {
	if !isFull(err) {
		return err
	}
	return fmt.Errorf("%w (the disk of the node's data directory has no space, or no inodes, left: free some, or let unused images be removed earlier)", err)
}

// retryable tells whether asking the registry again can help.
func retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, errRefused) {
		return false
	}
	if _, ok := errors.AsType[errStorage](err); ok || kindOf(err) != ErrUnavailable {
		return false
	}
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		return status.StatusCode == http.StatusRequestedRangeNotSatisfiable
	}
	return true
}
