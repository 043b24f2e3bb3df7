package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// serveMetadata answers containers at 169.254.170.2 until ctx ends: the task
// metadata endpoint, versions 3 and 4, the credentials of their tasks' roles, and the
// way to the API. A container proves which it is by the unguessable id in its URL.
func (a *Agent) serveMetadata(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: maxHeaders,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(newBoundedListener(listener)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// maxHeaders holds a session token of the greatest length.
const maxHeaders = 64 << 10

// handler serves the two ports at which tasks reach their node. Both lead here, and
// the Host tells them apart.
func (a *Agent) handler() http.Handler {
	mux := a.metadataHandler()
	if a.options.API.Endpoint == nil {
		return mux
	}
	api := a.newForwarder(a.options.API)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == taskAPI {
			api.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *Agent) metadataHandler() *http.ServeMux {
	mux := http.NewServeMux()
	a.handleCredentials(mux)
	for _, version := range []string{"v3", "v4"} {
		v4 := version == "v4"
		mux.HandleFunc("GET /"+version+"/{id}", a.metadata(func(ctx context.Context, r *record, i int) any {
			return a.containerMetadata(ctx, r, i, v4)
		}))
		mux.HandleFunc("GET /"+version+"/{id}/task", a.metadata(func(ctx context.Context, r *record, _ int) any {
			return a.taskMetadata(ctx, r, v4)
		}))
		mux.HandleFunc("GET /"+version+"/{id}/stats", a.metadata(func(ctx context.Context, r *record, i int) any {
			return a.containerStats(ctx, r, i)
		}))
		mux.HandleFunc("GET /"+version+"/{id}/task/stats", a.metadata(func(ctx context.Context, r *record, _ int) any {
			return a.taskStats(ctx, r)
		}))
	}
	return mux
}

// renderLimit bounds the making of an answer.
const renderLimit = 8 * time.Second

// metadata answers with what render returns of the container that the URL names.
func (a *Agent) metadata(render func(ctx context.Context, r *record, i int) any) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		id := request.PathValue("id")
		if !a.admit(w, id) {
			return
		}
		r, i, ok := a.engine.byMetadataID(id)
		if !ok {
			if !a.peers.pass(w, request) {
				answer(w, http.StatusNotFound, "no container has this metadata id: use the URL in ECS_CONTAINER_METADATA_URI_V4")
			}
			return
		}
		ctx, cancel := context.WithTimeout(request.Context(), renderLimit)
		defer cancel()
		answer(w, http.StatusOK, render(ctx, r, i))
	}
}

// admit takes a request for what an id names, within the limits; false when it was
// refused.
func (a *Agent) admit(w http.ResponseWriter, id string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(answeredHeader, "1")
	known := func(id string) bool { return a.engine.hasMetadataID(id) || a.engine.vault.serves(id) }
	if is := known(id); is && a.limits.allow(id, known) || !is && a.limits.strangers.Allow() {
		return true
	}
	w.Header().Set("Retry-After", "1")
	answer(w, http.StatusTooManyRequests, fmt.Sprintf("too many requests: a container may make %d a second, %d at once", requestRate, requestBurst))
	return false
}

// answer writes a body as JSON; a caller that has gone is its own affair.
func answer(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// The shapes of the task metadata endpoint, with its names.
type (
	limits struct {
		CPU    float64 `json:"CPU,omitempty"`
		Memory int64   `json:"Memory,omitempty"`
	}
	portMetadata struct {
		ContainerPort uint16
		Protocol      string
		HostPort      uint16 `json:",omitempty"`
		HostIP        string `json:"HostIp,omitempty"`
	}
	networkMetadata struct {
		NetworkMode              string
		IPv4Addresses            []string
		AttachmentIndex          *int64   `json:",omitempty"`
		MACAddress               string   `json:",omitempty"`
		IPv4SubnetCIDRBlock      string   `json:",omitempty"`
		DomainNameServers        []string `json:",omitempty"`
		DomainNameSearchList     []string `json:",omitempty"`
		PrivateDNSName           string   `json:",omitempty"`
		SubnetGatewayIPv4Address string   `json:"SubnetGatewayIpv4Address,omitempty"`
	}
	healthMetadata struct {
		Status      string     `json:"status"`
		StatusSince *time.Time `json:"statusSince,omitempty"`
		Output      string     `json:"output,omitempty"`
	}
	volumeMetadata struct {
		DockerName  string `json:",omitempty"`
		Source      string
		Destination string
	}
	containerMetadata struct {
		DockerID      string `json:"DockerId"`
		Name          string
		DockerName    string
		Image         string
		ImageID       string
		Ports         []portMetadata `json:",omitempty"`
		Labels        map[string]string
		DesiredStatus string
		KnownStatus   string
		ExitCode      *int `json:",omitempty"`
		Limits        limits
		CreatedAt     *time.Time `json:",omitempty"`
		StartedAt     *time.Time `json:",omitempty"`
		FinishedAt    *time.Time `json:",omitempty"`
		Type          string
		Health        *healthMetadata   `json:",omitempty"`
		Volumes       []volumeMetadata  `json:",omitempty"`
		LogDriver     string            `json:",omitempty"`
		LogOptions    map[string]string `json:",omitempty"`
		ContainerARN  string            `json:",omitempty"`
		RestartCount  *int              `json:",omitempty"`
		Networks      []networkMetadata
		Snapshotter   string `json:",omitempty"`
	}
	taskMetadata struct {
		Cluster            string
		TaskARN            string
		Family             string
		Revision           string
		DesiredStatus      string
		KnownStatus        string
		Limits             *limits    `json:",omitempty"`
		PullStartedAt      *time.Time `json:",omitempty"`
		PullStoppedAt      *time.Time `json:",omitempty"`
		ExecutionStoppedAt *time.Time `json:",omitempty"`
		AvailabilityZone   string     `json:",omitempty"`
		LaunchType         string     `json:",omitempty"`
		ServiceName        string     `json:",omitempty"`
		Group              string     `json:",omitempty"`
		Containers         []containerMetadata
	}
)

func (a *Agent) taskMetadata(ctx context.Context, r *record, v4 bool) taskMetadata {
	t := &r.Task
	m := taskMetadata{
		Cluster: t.TaskClusterARN, TaskARN: t.ARN, Family: t.Family, Revision: t.Version,
		DesiredStatus: desired(r), KnownStatus: string(r.status()),
		PullStartedAt: timePointer(r.PullStartedAt), PullStoppedAt: timePointer(r.PullStoppedAt),
		ExecutionStoppedAt: timePointer(r.ExecutionStoppedAt),
		AvailabilityZone:   firstOf(t.Zone, a.zoneName()), LaunchType: t.LaunchType,
		Containers: []containerMetadata{},
	}
	if v4 {
		m.ServiceName, m.Group = t.ServiceName, t.Group
	}
	if t.CPU > 0 || t.Memory > 0 {
		m.Limits = &limits{CPU: t.CPU, Memory: t.Memory}
	}
	for i := range r.Containers {
		m.Containers = append(m.Containers, a.containerMetadata(ctx, r, i, v4))
	}
	return m
}

func desired(r *record) string {
	if r.stopping() {
		return string(StatusStopped)
	}
	return string(StatusRunning)
}

func (a *Agent) containerMetadata(ctx context.Context, r *record, i int, v4 bool) containerMetadata {
	c, state := &r.Task.Containers[i], &r.Containers[i]
	config, host, _ := c.DockerConfig.Parse() // what does not parse was refused at creation
	m := containerMetadata{
		DockerID: r.runtimeID(i), Name: c.Name, DockerName: r.runtimeID(i), Image: c.Image, ImageID: state.ImageID,
		Labels: labels(r, i, config.Labels), DesiredStatus: desired(r), KnownStatus: string(state.Status),
		Limits:    limits{CPU: float64(c.CPU), Memory: c.Memory},
		CreatedAt: timePointer(state.CreatedAt), StartedAt: timePointer(state.StartedAt), Type: "NORMAL",
		Networks: []networkMetadata{a.networkMetadata(ctx, r, i, v4)},
	}
	if state.Exit != nil {
		m.ExitCode, m.FinishedAt = &state.Exit.Code, &state.Exit.At
	}
	if healthCheckOf(c) != nil {
		m.Health = &healthMetadata{Status: state.Health, StatusSince: timePointer(state.HealthSince), Output: state.HealthOutput}
	}
	for _, p := range state.Ports {
		m.Ports = append(m.Ports, portMetadata{ContainerPort: p.ContainerPort, Protocol: p.Protocol, HostPort: p.HostPort, HostIP: "0.0.0.0"})
	}
	if v4 {
		m.LogDriver, m.LogOptions, m.ContainerARN = host.LogConfig.Type, host.LogConfig.Config, c.ContainerARN
		m.Snapshotter = "overlayfs"
		if p := c.RestartPolicy; p != nil && p.Enabled {
			m.RestartCount = &state.Starts
		}
	}
	for _, p := range c.MountPoints {
		m.Volumes = append(m.Volumes, volumeMetadata{DockerName: p.SourceVolume, Source: p.SourceVolume, Destination: p.ContainerPath})
	}
	return m
}

// labels are the task definition's and those that the agent adds.
func labels(r *record, i int, own map[string]string) map[string]string {
	all := map[string]string{
		"com.amazonaws.ecs.cluster":                 r.Task.TaskClusterARN,
		"com.amazonaws.ecs.container-name":          r.Containers[i].Name,
		"com.amazonaws.ecs.task-arn":                r.Task.ARN,
		"com.amazonaws.ecs.task-definition-family":  r.Task.Family,
		"com.amazonaws.ecs.task-definition-version": r.Task.Version,
	}
	for k, v := range own {
		all[k] = v
	}
	return all
}

func (a *Agent) networkMetadata(ctx context.Context, r *record, i int, v4 bool) networkMetadata {
	m := networkMetadata{NetworkMode: r.networkMode(), IPv4Addresses: []string{}}
	if len(r.Task.ENIs) > 0 {
		e := &r.Task.ENIs[0]
		for _, address := range e.IPv4Addresses {
			m.IPv4Addresses = append(m.IPv4Addresses, address.PrivateAddress)
		}
		if v4 {
			m.AttachmentIndex, m.MACAddress, m.PrivateDNSName = &e.Index, e.MACAddress, e.PrivateDNSName
			m.SubnetGatewayIPv4Address, m.DomainNameServers, m.DomainNameSearchList = e.SubnetGatewayIPv4Address, e.DomainNameServers, e.DomainName
			if eni, err := taskENI(&r.Task); err == nil {
				m.IPv4SubnetCIDRBlock = eni.Address.Masked().String()
			}
		}
		return m
	}
	sandboxes, err := a.networks.Sandboxes(ctx)
	if err != nil {
		return m
	}
	for _, s := range sandboxes {
		if s.ID == r.sandboxID(i) && s.Address.IsValid() {
			m.IPv4Addresses = append(m.IPv4Addresses, s.Address.Addr().String())
		}
	}
	return m
}
