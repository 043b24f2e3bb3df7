// Command sim runs the real control plane in virtual time: the ECS room over the
// in-memory store, its loops, and the agents' sessions, all stepped from one
// seeded queue of events on one goroutine. Agents, networks, operators and the
// faults of all of them are simulated; what they may not break is checked at
// every commit and in between.
//
//	make sim                       fresh seeds for a minute (FOR=10m: for longer)
//	go run ./sim -for 1m           the same
//	go run ./sim -scenario mixed -seed 7 -trace
//	                               one seed again, with everything that happened
//
// A run follows from its scenario and seed alone; a failure names both. Nothing
// here waits or reads the machine's clock but main.go, to know when to stop.
//
// Read world.go first (the queue), then kv.go and server.go (the real part),
// agent.go, link.go and request.go (the simulated part), operator.go (the load),
// oracle.go and check.go (what must hold), scenario.go. What it found, and which
// faults it is known to find: docs/simulation.md.
package main
