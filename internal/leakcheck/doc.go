// Package leakcheck tells whether a test has left something on the machine:
// processes, mounts, cgroups, network namespaces, links, addresses, listening
// ports, nftables tables and elements, files. Every test that runs containers or
// sets up networks begins with
//
//	leakcheck.Check(t, leakcheck.Scope{Node: node, Paths: []string{runDir}})
//
// Several tests, in several processes, may use the machine at once. So a Scope
// says what belongs to the test, by names and prefixes, and nothing else is
// compared. What existed before is no leak.
//
// Call Check before anything else: its comparison then runs after every other
// cleanup. It waits a moment for what the kernel takes away asynchronously, and
// then fails the test with one line for each thing left.
package leakcheck
