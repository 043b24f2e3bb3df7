// Command bench measures Longshore and prints one Markdown table: medians, 99th
// percentiles where the tail matters, and beside each figure what was measured in
// the same run for comparison, a peer (runc, docker) or the floor (what the
// machine takes for the least that the work can be). It asserts nothing.
//
//	make bench                     builds bin/longshore and runs everything
//	go run ./bench -run start      one subject: start, memory, containers, storm,
//	                               images, output, logs, wire, api, fleet
//	go run ./bench -quick          few samples
//	go run ./bench -steps          also where the time of a task's start goes
//	go run ./bench -json FILE      the figures for a program
//
// Servers run as processes of their own, from bin/longshore, with data directories
// and loopback ports of their own, and are asked through AWS's SDK; the load comes
// from the same machine, so that a figure contains the client's share. Containers
// need root; without it those rows say so.
//
// Read main.go first, then a subject: start.go, memory.go, tasks.go with peers.go,
// storm.go, images.go, nodelogs.go, logs.go, wire.go, api.go,
// thousands.go with agents.go. table.go holds the statistics.
package main
