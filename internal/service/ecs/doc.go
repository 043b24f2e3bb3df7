// Package ecs is Amazon ECS's API: clusters, task definitions, container
// instances and tasks, over the store. It decides where tasks go and what each
// node must run; the nodes' agents learn it through the acs package (this
// package is its Source) and report back by the Submit* operations.
//
// What we do beside AWS: one machine may be a universal node, which serves every
// cluster of its account and region, and Fargate, from one resource ledger; a
// container instance record for it exists in each cluster. Tasks of launch type
// EC2 are placed on external instances as well, because every machine here is
// the user's own. Task ENIs get addresses of a built-in VPC (vpc.go).
//
// It does not run containers, does not push messages to agents, and imports no
// other room: credentials of task roles, logs and images belong to others.
//
// Invariants:
//   - a task's lastStatus moves forward only, through advance in state.go;
//   - what tasks use on a node is derived from the task records; whoever adds a
//     task rewrites the node's ledger record in the same transaction, so that two
//     placements can never both take the last of a resource;
//   - functions given to DB.Update are pure: ids and times are made before;
//   - a service's step reads, decides (package rollout) and writes in one transaction;
//   - a stopped task stays in the store for an hour and then moves to history.
//
// Read records.go first, then runtask.go, launch.go, state.go and submit.go; for
// services service_records.go and service_loop.go.
package ecs
