// Package wire speaks AWS's wire protocols: it turns an HTTP request into a
// typed call of a service method, and the method's result or error back into
// the bytes that AWS's own clients expect.
//
// Request and response types are aws-sdk-go-v2's own (ecs.RunTaskInput,
// types.Task); one reflection codec maps them to awsJson 1.0/1.1, awsQuery,
// restJson1 and rpcv2Cbor. Below HTTP every call, from a client or from another
// room, passes one chain: principal, constraints, authorisation, throttling,
// audit, operation (see Chain and Invoke).
//
// It does not know any service: rooms describe themselves with a ServiceInfo
// and register each operation explicitly with Handle.
//
// Invariants: no operation runs before its signature was verified, its input
// checked and its principal authorised; no secret is logged; every body is
// bounded.
//
// Package codec below it maps types to bytes, sigv4 verifies signatures,
// constraint checks inputs. Read call.go first, then registry.go and chain.go,
// then server.go.
package wire
