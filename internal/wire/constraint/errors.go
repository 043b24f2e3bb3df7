package constraint

import (
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// Error is a violated input, as it is answered; it implements smithy.APIError.
type Error struct {
	// Code is the service's code for invalid input.
	Code    string
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// ErrorCode implements smithy.APIError.
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage implements smithy.APIError.
func (e *Error) ErrorMessage() string { return e.Message }

// ErrorFault implements smithy.APIError.
func (e *Error) ErrorFault() smithy.ErrorFault { return smithy.FaultClient }

// error returns what was collected, or nil.
func (w *walk) error(code string) error {
	if w.count == 0 {
		return nil
	}
	noun := "errors"
	if w.count == 1 {
		noun = "error"
	}
	return &Error{Code: code, Message: fmt.Sprintf("%d validation %s detected: %s", w.count, noun, strings.Join(w.violations, "; "))}
}

// rules are the ways in which a service answers invalid input.
type rules struct {
	// code for all operations but those in operations.
	code       string
	operations map[string]string
}

func (r rules) codeOf(operation string) string {
	if code, ok := r.operations[operation]; ok {
		return code
	}
	return r.code
}

// rulesOf returns a service's rules. Services with the query protocol say
// ValidationError, most others ValidationException; those that declare an
// exception of their own for invalid input are listed.
func rulesOf(service string) rules {
	switch service {
	case "ecs":
		// The operations on task definitions answer ClientException.
		return rules{"InvalidParameterException", map[string]string{
			"RegisterTaskDefinition": "ClientException", "DeregisterTaskDefinition": "ClientException",
			"DescribeTaskDefinition": "ClientException", "ListTaskDefinitions": "ClientException",
			"ListTaskDefinitionFamilies": "ClientException", "DeleteTaskDefinitions": "ClientException",
		}}
	case "logs", "ecr":
		return rules{code: "InvalidParameterException"}
	case "batch":
		return rules{code: "ClientException"}
	case "codebuild":
		return rules{code: "InvalidInputException"}
	case "servicediscovery":
		return rules{code: "InvalidInput"}
	case "sts", "iam", "elbv2", "autoscaling", "cloudformation", "cloudwatch", "sns":
		return rules{code: "ValidationError"}
	}
	return rules{code: "ValidationException"}
}
