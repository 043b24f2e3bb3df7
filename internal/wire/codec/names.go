package codec

// exceptions holds, per service, the members whose wire name is not the one
// that the service's rule gives: "GoType.GoField" → wire name. Input and output
// types have the SDK's names (ListFooInput), not the model's. The rule for the
// Message of an exception is "message".
var exceptions = map[string]map[string]string{
	"logs": {
		"DescribeDestinationsInput.DestinationNamePrefix": "DestinationNamePrefix",
	},
	"sts": {
		"PolicyDescriptorType.Arn": "arn",
	},
	"iam": {
		"ListDelegationRequestsOutput.IsTruncated": "isTruncated",
	},
	"cloudwatch": {
		"DashboardInvalidInputError.DashboardValidationMessages": "dashboardValidationMessages",
		"ConcurrentModificationException.Message":                "Message",
		"ConflictException.Message":                              "Message",
		"InternalServiceFault.Message":                           "Message",
		"KmsAccessDeniedException.Message":                       "Message",
		"KmsKeyDisabledException.Message":                        "Message",
		"KmsKeyNotFoundException.Message":                        "Message",
		"LimitExceededException.Message":                         "Message",
		"ResourceNotFoundException.Message":                      "Message",
	},
}

// itemNames holds the query and XML names of list elements that are not called
// "member": "service:GoType.GoField" → name.
var itemNames = map[string]string{}
