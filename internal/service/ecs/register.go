package ecs

import (
	"longshore.dev/longshore/internal/wire"
)

// info describes ECS on the wire.
var info = wire.ServiceInfo{
	Name:         "ecs",
	SigningName:  "ecs",
	IAMPrefix:    "ecs",
	Protocols:    []wire.Protocol{wire.AWSJSON11},
	TargetPrefix: "AmazonEC2ContainerServiceV20141113",
	APIVersion:   "2014-11-13",
	LowerCamel:   true,
}
