// Command longshore is Amazon ECS and the services around it, self-hosted.
//
// `longshore up` runs a server and one node on this machine; `longshore server`
// and `longshore agent` run the same parts on a fleet; `longshore env` prints the
// lines that point AWS's own tools here. This package turns flags, a
// configuration file and LONGSHORE_ variables into the parts' options, and holds
// nothing else: the server is package control, the node package node.
//
// Read main.go first, then up.go.
package main
