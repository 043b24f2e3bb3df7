package balance

import "time"

// Protocols of listeners, target groups and health checks.
const (
	HTTP  = "HTTP"
	HTTPS = "HTTPS"
	TCP   = "TCP"
	TLS   = "TLS"
)

// Protocol versions of target groups.
const (
	HTTP1 = "HTTP1"
	HTTP2 = "HTTP2"
	GRPC  = "GRPC"
)

// Table is all that a node's data plane serves.
type Table struct {
	LoadBalancers []LoadBalancer
	TargetGroups  []TargetGroup
}

// LoadBalancer is an Application or a Network Load Balancer.
type LoadBalancer struct {
	// ID is its ARN, or any other name that no other has.
	ID string
	// Name is its DNS name, Address what that stands for; the machine is given both. Empty:
	// it has none of its own.
	Name, Address string
	Listeners     []Listener
	// IdleTimeoutSeconds is idle_timeout.timeout_seconds; 0: 60.
	IdleTimeoutSeconds int
	// ClientKeepAliveSeconds is client_keep_alive.seconds; 0: 3600.
	ClientKeepAliveSeconds int
	// DesyncMode is routing.http.desync_mitigation_mode; "": defensive.
	DesyncMode string
	// DropInvalidHeaders is routing.http.drop_invalid_header_fields.enabled.
	DropInvalidHeaders bool
	// PreserveHost is routing.http.preserve_host_header.enabled.
	PreserveHost bool
	// TLSHeaders is routing.http.x_amzn_tls_version_and_cipher_suite.enabled.
	TLSHeaders bool
	// ForwardedMode is routing.http.xff_header_processing.mode; "": append.
	ForwardedMode string
	// ForwardedPort is routing.http.xff_client_port.enabled.
	ForwardedPort bool
	// NoHTTP2 is the opposite of routing.http2.enabled.
	NoHTTP2 bool
}

// Modes of routing.http.desync_mitigation_mode.
const (
	Monitor   = "monitor"
	Defensive = "defensive"
	Strictest = "strictest"
)

// Modes of routing.http.xff_header_processing.mode.
const (
	Append   = "append"
	Preserve = "preserve"
	Remove   = "remove"
)

// IdleTimeout is how long a connection may stay without a byte.
func (l *LoadBalancer) IdleTimeout() time.Duration { return seconds(l.IdleTimeoutSeconds, 60) }

// KeepAlive is how long a client's connection lives.
func (l *LoadBalancer) KeepAlive() time.Duration { return seconds(l.ClientKeepAliveSeconds, 3600) }

// Listener is an address and what is done with what comes in there.
type Listener struct {
	// ID is its ARN, or any other name that no other has.
	ID string
	// Address is the IP address to listen on; "": all.
	Address string
	// Port to listen on; 0: any that is free.
	Port int
	// Protocol is HTTP, HTTPS, TCP or TLS.
	Protocol string
	// Certificates are what HTTPS and TLS present: the first that fits the name that the
	// client asks for, else the first.
	Certificates []Certificate
	// Rules in any order; they are tried by their priority.
	Rules []Rule
	// DefaultActions are for what no rule matches.
	DefaultActions []Action
	// TCPIdleTimeoutSeconds is tcp.idle_timeout.seconds; 0: 350.
	TCPIdleTimeoutSeconds int
}

// TCPIdleTimeout is how long a flow may stay without a byte.
func (l *Listener) TCPIdleTimeout() time.Duration { return seconds(l.TCPIdleTimeoutSeconds, 350) }

// Certificate is a chain, the leaf first, and its private key.
type Certificate struct {
	ChainPEM, KeyPEM string
}

// Rule says what is done with the requests that meet all of its conditions.
type Rule struct {
	ID         string
	Priority   int
	Conditions []Condition
	Actions    []Action
}

// Fields of conditions.
const (
	HostHeader  = "host-header"
	PathPattern = "path-pattern"
	HTTPHeader  = "http-header"
	HTTPMethod  = "http-request-method"
	QueryString = "query-string"
	SourceIP    = "source-ip"
)

// Condition is met when one of its values matches.
type Condition struct {
	Field string
	// Values are patterns with * and ?, for source-ip CIDR blocks, for
	// http-request-method names.
	Values []string
	// Regexes are for host-header, path-pattern and http-header.
	Regexes []string
	// HeaderName is for http-header.
	HeaderName string
	// Query is for query-string.
	Query []QueryPair
}

// QueryPair is a parameter of the query; without a key, any parameter's value.
type QueryPair struct {
	Key, Value string
}

// Types of actions.
const (
	ForwardAction       = "forward"
	RedirectAction      = "redirect"
	FixedResponseAction = "fixed-response"
)

// Action has one of Forward, Redirect and FixedResponse, as its type says.
type Action struct {
	Type          string
	Forward       *Forward
	Redirect      *Redirect
	FixedResponse *FixedResponse
}

// Forward distributes over target groups.
type Forward struct {
	Groups []WeightedGroup
	// StickySeconds is how long a client stays with its target group; 0: it does not.
	StickySeconds int
}

// WeightedGroup is a target group and its share; of a single group the weight does not
// matter.
type WeightedGroup struct {
	ID     string
	Weight int
}

// Redirect's parts may hold #{protocol}, #{host}, #{port}, #{path} and #{query}; an
// empty part stays as the request has it.
type Redirect struct {
	Protocol, Host, Port, Path string
	// Query is nil to stay as it is; it may be empty.
	Query *string
	// StatusCode is 301 or 302.
	StatusCode int
}

// FixedResponse is an answer of the load balancer's own.
type FixedResponse struct {
	StatusCode  int
	ContentType string
	Body        string
}

// Algorithms of target groups.
const (
	RoundRobin       = "round_robin"
	LeastOutstanding = "least_outstanding_requests"
	WeightedRandom   = "weighted_random"
)

// TargetGroup is targets that serve alike.
type TargetGroup struct {
	// ID is its ARN, or any other name that no other has.
	ID string
	// Protocol is what its targets speak: HTTP, HTTPS, TCP or TLS.
	Protocol string
	// ProtocolVersion is HTTP1, HTTP2 or GRPC; "": HTTP1.
	ProtocolVersion string
	Targets         []Target
	HealthCheck     HealthCheck
	// StickySeconds is how long a client stays with its target, by a cookie of the load
	// balancer (lb_cookie); 0: it does not, whatever StickyCookie says.
	StickySeconds int
	// StickyCookie makes it the application's cookie of this name that keeps a client
	// (app_cookie): from the response on that sets it.
	StickyCookie string
	// StickySource keeps the clients of a network load balancer at their targets by their
	// address (source_ip).
	StickySource bool
	// SlowStartSeconds is slow_start.duration_seconds.
	SlowStartSeconds int
	// DeregistrationDelaySeconds is nil for 300.
	DeregistrationDelaySeconds *int
	// KeepConnections lets the flows of a network load balancer go on after the
	// deregistration delay (deregistration_delay.connection_termination.enabled=false).
	KeepConnections bool
	// KeepUnhealthyConnections lets the flows of a target that has become unhealthy go on
	// (target_health_state.unhealthy.connection_termination.enabled=false).
	KeepUnhealthyConnections bool
	// Algorithm is load_balancing.algorithm.type; "": round_robin.
	Algorithm string
	// ProxyProtocol is proxy_protocol_v2.enabled.
	ProxyProtocol bool
}

// DeregistrationDelay is how long a draining target may finish what it has.
func (g *TargetGroup) DeregistrationDelay() time.Duration {
	if g.DeregistrationDelaySeconds == nil {
		return 300 * time.Second
	}
	return time.Duration(*g.DeregistrationDelaySeconds) * time.Second
}

// SlowStart is how long a target that has become healthy gets less than its share.
func (g *TargetGroup) SlowStart() time.Duration { return seconds(g.SlowStartSeconds, 0) }

// Version is the protocol version, never "".
func (g *TargetGroup) Version() string {
	if g.ProtocolVersion == "" {
		return HTTP1
	}
	return g.ProtocolVersion
}

// Layer4 tells whether the group is one of a network load balancer.
func (g *TargetGroup) Layer4() bool { return g.Protocol == TCP || g.Protocol == TLS }

// Target is one address that serves.
type Target struct {
	// ID is what AWS calls it: an instance's id or an IP address. With the port it names
	// the target in its group.
	ID   string
	IP   string
	Port int
	// Draining: it is being deregistered, and gets nothing new.
	Draining bool
}

// HealthCheck says how a target shows that it is healthy.
type HealthCheck struct {
	// Protocol is HTTP, HTTPS or TCP; "": HTTP, or TCP for a group of TCP or TLS.
	Protocol string
	// Port is 0 for the target's own.
	Port int
	// Path is / by default, or /AWS.ALB/healthcheck for gRPC.
	Path string
	// IntervalSeconds is 30 by default, TimeoutSeconds 6 for HTTP and 10 for others.
	IntervalSeconds, TimeoutSeconds int
	// HealthyThreshold is 5 by default, UnhealthyThreshold 2.
	HealthyThreshold, UnhealthyThreshold int
	// Matcher is codes and ranges ("200,202", "200-299"): of HTTP, or of gRPC where the
	// group's version is that. By default 200, 200-399 for groups of TCP or TLS, 12 for gRPC.
	Matcher string
}

func seconds(n, byDefault int) time.Duration {
	if n == 0 {
		n = byDefault
	}
	return time.Duration(n) * time.Second
}
