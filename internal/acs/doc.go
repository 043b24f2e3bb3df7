// Package acs is the agent protocol: the messages that travel between the
// control plane and a node's agent, the server's websocket sessions (ACS for
// assignments, TCS for telemetry) and the client that our own agent uses.
//
// Our agent and Amazon's speak the same protocol to the same server. The server
// side knows tasks only through the Source interface; the client side hands
// messages to its caller. Neither decides what a task does.
//
// Read message.go first (the shapes), then server.go and client.go.
package acs
