package network

import (
	"fmt"
	"testing"
)

func TestBridgeSandboxesReachEachOther(t *testing.T) {
	l := newNode(t, "n1")
	a := setup(t, l, Request{ID: "a", Mode: ModeBridge})
	b := setup(t, l, Request{ID: "b", Mode: ModeBridge})
	listen(t, a.NetNS, "tcp", ":80", "a")
	listen(t, a.NetNS, "udp", ":53", "a")
	listen(t, "host", "tcp", l.pool.gateway().String()+":7000", "gateway")

	aAddr := a.Address.Addr()
	wantAnswer(t, b.NetNS, "tcp", fmt.Sprintf("%s:80", aAddr), "a "+b.Address.Addr().String())
	wantAnswer(t, b.NetNS, "udp", fmt.Sprintf("%s:53", aAddr), "a "+b.Address.Addr().String())
	wantAnswer(t, "host", "tcp", fmt.Sprintf("%s:80", aAddr), "a "+l.pool.gateway().String())
	wantAnswer(t, b.NetNS, "tcp", l.pool.gateway().String()+":7000", "gateway "+b.Address.Addr().String())
	wantAnswer(t, a.NetNS, "tcp", "127.0.0.1:80", "a 127.0.0.1")
}
