package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// compiled is a listener of one table, ready to serve.
type compiled struct {
	balancer     *balance.LoadBalancer
	listener     *balance.Listener
	router       *balance.Router
	certificates []tls.Certificate
	counters     *balancerCounters
	idle         time.Duration
	// groups by id.
	groups map[string]*group
}

// address names the socket; a listener on any port has one of its own.
func (c *compiled) address() string {
	if c.listener.Port == 0 {
		return c.listener.Address + " of " + c.listener.ID
	}
	return net.JoinHostPort(c.listener.Address, strconv.Itoa(c.listener.Port))
}

// kind is what a front cannot change while it serves.
type kind struct {
	balancer, protocol string
	noHTTP2            bool
	idle               time.Duration
}

func (c *compiled) kind() kind {
	k := kind{balancer: c.balancer.ID, protocol: c.listener.Protocol}
	if !c.layer4() {
		k.noHTTP2, k.idle = c.balancer.NoHTTP2, c.idle
	}
	return k
}

func (c *compiled) layer4() bool {
	return c.listener.Protocol == balance.TCP || c.listener.Protocol == balance.TLS
}

// compile makes all listeners of a table ready, or none; with the lock held.
func (s *Server) compile(t *balance.Table) ([]*compiled, error) {
	before := map[string]*compiled{}
	for _, p := range s.ports {
		c := p.front.Load().compiled.Load()
		before[c.listener.ID] = c
	}
	var all []*compiled
	var wrong []error
	for i := range t.LoadBalancers {
		lb := &t.LoadBalancers[i]
		for j := range lb.Listeners {
			c := &compiled{balancer: lb, listener: &lb.Listeners[j], idle: lb.IdleTimeout()}
			if c.layer4() {
				c.idle = c.listener.TCPIdleTimeout()
			}
			if err := c.prepare(before[c.listener.ID]); err != nil {
				wrong = append(wrong, err)
			}
			all = append(all, c)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	// Counters live as long as their load balancer.
	counters := make(map[string]*balancerCounters, len(t.LoadBalancers))
	for i := range t.LoadBalancers {
		id := t.LoadBalancers[i].ID
		if counters[id] = s.counters[id]; counters[id] == nil {
			counters[id] = new(balancerCounters)
		}
	}
	s.counters = counters
	for _, c := range all {
		c.counters = counters[c.balancer.ID]
	}
	return all, nil
}

// prepare takes the certificates from the table before where they are the same: to parse
// them is what costs.
func (c *compiled) prepare(before *compiled) (err error) {
	if c.router, err = balance.NewRouter(c.listener); err != nil {
		return err
	}
	if before != nil && slices.Equal(before.listener.Certificates, c.listener.Certificates) {
		c.certificates = before.certificates
		return nil
	}
	for i, pair := range c.listener.Certificates {
		certificate, err := tls.X509KeyPair([]byte(pair.ChainPEM), []byte(pair.KeyPEM))
		if err != nil {
			return fmt.Errorf("certificate %d of listener %s: %w; give the chain, the leaf first, and the leaf's key, both as PEM", i+1, c.listener.ID, err)
		}
		c.certificates = append(c.certificates, certificate)
	}
	return nil
}

// certificate is the first that the client can take, else the first.
func (c *compiled) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(c.certificates) == 0 {
		return nil, errors.New("the listener does not speak TLS any more: connect again")
	}
	for i := range c.certificates {
		if hello.SupportsCertificate(&c.certificates[i]) == nil {
			return &c.certificates[i], nil
		}
	}
	return &c.certificates[0], nil
}

// protocols that clients may speak. HTTP/2 without TLS, by prior knowledge, is beyond
// AWS: gRPC clients without certificates need it.
func (k kind) protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	if !k.noHTTP2 {
		p.SetHTTP2(true)
		p.SetUnencryptedHTTP2(true)
	}
	return p
}
