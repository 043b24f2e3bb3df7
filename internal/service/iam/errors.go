package iam

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

func errNone(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.NoSuchEntityException{Message: &m}
}

func errExists(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.EntityAlreadyExistsException{Message: &m}
}

func errLimit(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.LimitExceededException{Message: &m}
}

func errInUse(message string) error { return &types.DeleteConflictException{Message: &message} }

func errInput(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.InvalidInputException{Message: &m}
}

func errProtected(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.UnmodifiableEntityException{Message: &m}
}

func errDocument(format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	return &types.MalformedPolicyDocumentException{Message: &m}
}

// stored answers an error of the store as AWS would where it has an answer.
func stored(err error) error {
	if errors.Is(err, store.ErrConflict) {
		m := "The request was rejected because multiple requests to change this object were submitted simultaneously. Wait a few minutes and submit your request again."
		return &types.ConcurrentModificationException{Message: &m}
	}
	return err
}
