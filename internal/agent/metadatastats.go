package agent

import (
	"context"
	"time"

	"longshore.dev/longshore/internal/network"
)

// Docker's statistics, as far as tools read them from the metadata endpoint.
type (
	cpuUsage struct {
		TotalUsage        uint64 `json:"total_usage"`
		UsageInKernelmode uint64 `json:"usage_in_kernelmode"`
		UsageInUsermode   uint64 `json:"usage_in_usermode"`
	}
	cpuStats struct {
		CPUUsage cpuUsage `json:"cpu_usage"`
	}
	memoryStats struct {
		Usage uint64            `json:"usage"`
		Limit uint64            `json:"limit,omitempty"`
		Stats map[string]uint64 `json:"stats"`
	}
	pidsStats struct {
		Current uint64 `json:"current"`
	}
	networkStats struct {
		RxBytes   uint64 `json:"rx_bytes"`
		RxPackets uint64 `json:"rx_packets"`
		RxErrors  uint64 `json:"rx_errors"`
		RxDropped uint64 `json:"rx_dropped"`
		TxBytes   uint64 `json:"tx_bytes"`
		TxPackets uint64 `json:"tx_packets"`
		TxErrors  uint64 `json:"tx_errors"`
		TxDropped uint64 `json:"tx_dropped"`
	}
	rateStats struct {
		RxBytesPerSec float64 `json:"rx_bytes_per_sec"`
		TxBytesPerSec float64 `json:"tx_bytes_per_sec"`
	}
	statsMetadata struct {
		Read             time.Time               `json:"read"`
		Preread          time.Time               `json:"preread"`
		Name             string                  `json:"name"`
		ID               string                  `json:"id"`
		PIDs             pidsStats               `json:"pids_stats"`
		CPU              cpuStats                `json:"cpu_stats"`
		PreCPU           cpuStats                `json:"precpu_stats"`
		Memory           memoryStats             `json:"memory_stats"`
		Networks         map[string]networkStats `json:"networks,omitempty"`
		NetworkRateStats *rateStats              `json:"network_rate_stats,omitempty"`
	}
)

// containerStats measures one container now; null when it does not run.
func (a *Agent) containerStats(ctx context.Context, r *record, i int) *statsMetadata {
	if r.Containers[i].Status != StatusRunning {
		return nil
	}
	id := r.runtimeID(i)
	last, previous, ok := a.stats.sampleOne(ctx, id, r.sandboxID(i))
	if !ok {
		return nil
	}
	m := &statsMetadata{
		Read: last.stats.At, Preread: previous.stats.At, Name: r.Containers[i].Name, ID: id,
		PIDs: pidsStats{last.stats.PIDs}, CPU: cpuOf(last), PreCPU: cpuOf(previous),
		Memory: memoryStats{
			Usage: last.stats.MemoryBytes, Limit: last.stats.MemoryLimitBytes,
			Stats: map[string]uint64{"cache": last.stats.MemoryCacheBytes},
		},
	}
	if mode := network.Mode(r.networkMode()); mode == network.ModeBridge || mode == network.ModeAWSVPC {
		c := last.counters
		m.Networks = map[string]networkStats{"eth0": {
			c.RxBytes, c.RxPackets, c.RxErrors, c.RxDropped, c.TxBytes, c.TxPackets, c.TxErrors, c.TxDropped,
		}}
		if seconds := last.stats.At.Sub(previous.stats.At).Seconds(); !previous.stats.At.IsZero() && seconds > 0 {
			m.NetworkRateStats = &rateStats{
				RxBytesPerSec: float64(c.RxBytes-min(c.RxBytes, previous.counters.RxBytes)) / seconds,
				TxBytesPerSec: float64(c.TxBytes-min(c.TxBytes, previous.counters.TxBytes)) / seconds,
			}
		}
	}
	return m
}

func cpuOf(s sample) cpuStats {
	return cpuStats{cpuUsage{s.stats.CPUNanos, s.stats.CPUSystemNanos, s.stats.CPUUserNanos}}
}

// taskStats measures every container of a task, by its id.
func (a *Agent) taskStats(ctx context.Context, r *record) map[string]*statsMetadata {
	all := map[string]*statsMetadata{}
	for i := range r.Containers {
		all[r.runtimeID(i)] = a.containerStats(ctx, r, i)
	}
	return all
}
