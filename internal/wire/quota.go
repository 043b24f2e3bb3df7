package wire

// Quotas returns the rates that AWS documents for its own services' operations,
// times scale; an operation that AWS says nothing about has none.
//
// A server is one machine's or one team's: AWS's figures protect a region that
// very many accounts share.
func Quotas(scale float64) []Group {
	groups := append(ecsQuotas(), logsQuotas()...)
	for i := range groups {
		r := &groups[i].Rate
		r.PerSecond, r.Burst = r.PerSecond*scale, max(1, r.Burst*scale)
	}
	return groups
}

// ecsQuotas has the categories of the ECS API: all operations of one share a bucket.
func ecsQuotas() []Group {
	group := func(burst, perSecond float64, operations ...string) Group {
		return Group{"ecs", operations, Rate{PerSecond: perSecond, Burst: burst}}
	}
	return []Group{
		group(20, 1, "CreateCluster", "DeleteCluster", "PutClusterCapacityProviders", "UpdateCluster", "UpdateClusterSettings"),
		group(50, 20, "DescribeClusters", "ListClusters"),
		group(20, 1, "DeregisterTaskDefinition", "RegisterTaskDefinition"),
		group(50, 20, "DescribeTaskDefinition", "ListTaskDefinitions", "ListTaskDefinitionFamilies"),
		group(5, 1, "DeleteTaskDefinitions"),
		group(10, 1, "CreateCapacityProvider", "DeleteCapacityProvider", "UpdateCapacityProvider"),
		group(50, 20, "DescribeCapacityProviders"),
		group(20, 10, "TagResource", "UntagResource"),
		group(50, 20, "ListTagsForResource"),
		group(10, 1, "DeleteAccountSetting", "PutAccountSetting", "PutAccountSettingDefault"),
		group(50, 20, "ListAccountSettings"),
		group(100, 40, "DeleteAttributes", "DeregisterContainerInstance", "ExecuteCommand", "PutAttributes", "RunTask", "StartTask", "StopTask", "UpdateContainerAgent", "UpdateContainerInstancesState"),
		group(100, 20, "DescribeContainerInstances", "DescribeTasks", "ListAttributes", "ListContainerInstances", "ListTasks"),
		group(200, 120, "RegisterContainerInstance", "SubmitAttachmentStateChanges", "SubmitContainerStateChange", "SubmitTaskStateChange"),
		group(50, 5, "CreateService", "DeleteService", "UpdateService"),
		group(100, 20, "DescribeServices", "ListServices"),
		group(50, 20, "DescribeServiceDeployments", "ListServiceDeployments"),
		group(50, 20, "DescribeServiceRevisions"),
		group(200, 80, "UpdateTaskProtection", "GetTaskProtection"),
		group(10, 1, "ListServicesByNamespace"),
	}
}

// logsQuotas has one bucket per operation; AWS gives rates per second and no
// bursts. Where regions differ, us-east-1 counts.
func logsQuotas() []Group {
	var groups []Group
	for perSecond, operations := range map[float64][]string{
		5: {
			"DeleteRetentionPolicy", "ListTagsForResource", "ListTagsLogGroup", "PutRetentionPolicy",
			"TagLogGroup", "TagResource", "UntagLogGroup", "UntagResource",
		},
		10:   {"CreateLogGroup", "DeleteLogGroup", "DescribeLogGroups"},
		15:   {"DeleteLogStream"},
		25:   {"DescribeLogStreams", "FilterLogEvents", "GetLogEvents"},
		50:   {"CreateLogStream"},
		5000: {"PutLogEvents"},
	} {
		for _, operation := range operations {
			groups = append(groups, Group{"logs", []string{operation}, Rate{PerSecond: perSecond, Burst: perSecond}})
		}
	}
	return groups
}
