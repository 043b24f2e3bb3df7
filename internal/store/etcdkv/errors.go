package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"longshore.dev/longshore/internal/store"
)

// translate turns an error of etcd into the store's vocabulary.
func (kv *KV) translate(ctx context.Context, what string, err error) error {
	if failed := kv.Err(); failed != nil {
		return failed
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%w: %s: etcd did not answer in time: %w", store.ErrUnavailable, what, cause)
	}
	known := rpctypes.Error(err)
	switch {
	case errors.Is(known, rpctypes.ErrCompacted):
		return fmt.Errorf("%w: %s: %v", store.ErrCompacted, what, err)
	case errors.Is(known, rpctypes.ErrNoSpace):
		if kv.maintenance != nil {
			return fmt.Errorf("%w: the store has reached its quota of %d bytes: space is being reclaimed, raise the quota if this persists",
				store.ErrNoSpace, kv.maintenance.quota)
		}
		return fmt.Errorf("%w: the etcd cluster has reached its quota: compact and defragment it, disarm the alarm, or raise --quota-backend-bytes", store.ErrNoSpace)
	case errors.Is(known, rpctypes.ErrRequestTooLarge), errors.Is(known, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: %s: %v", store.ErrTooLarge, what, err)
	case errors.Is(known, rpctypes.ErrAuthFailed), errors.Is(known, rpctypes.ErrPermissionDenied), errors.Is(known, rpctypes.ErrUserEmpty),
		status.Code(err) == codes.Unauthenticated, status.Code(err) == codes.PermissionDenied:
		return fmt.Errorf("%w: %s: etcd refuses this user: check its name, password and role: %v", store.ErrUnavailable, what, err)
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, what, err)
}

// isDiskFull also knows the text, for etcd often keeps only that.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || containsAny(err.Error(), "no space left on device", "disk quota exceeded")
}

func isPermission(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EROFS) ||
		containsAny(err.Error(), "permission denied", "operation not permitted", "read-only file system")
}
