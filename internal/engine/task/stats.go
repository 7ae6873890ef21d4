package task

import (
	"context"
	"time"

	"skerry/internal/engine"
)

// dockerStats are a container's counters in the form of Docker's API, as the
// metadata endpoint gives them. What the engine does not count is left out.
type dockerStats struct {
	Read   time.Time `json:"read"`
	Name   string    `json:"name"`
	ID     string    `json:"id"`
	Procs  int       `json:"num_procs"`
	PIDs   pidStats  `json:"pids_stats"`
	CPU    cpuStats  `json:"cpu_stats"`
	Memory memStats  `json:"memory_stats"`
	Nets   netsStats `json:"networks,omitempty"`
}

type (
	pidStats struct {
		Current int64 `json:"current"`
	}
	cpuStats struct {
		Usage struct {
			Total int64 `json:"total_usage"` // ns
		} `json:"cpu_usage"`
		Throttling struct {
			Time int64 `json:"throttled_time"` // ns
		} `json:"throttling_data"`
	}
	memStats struct {
		Usage   int64 `json:"usage"` // bytes
		Max     int64 `json:"max_usage"`
		Limit   int64 `json:"limit,omitempty"`
		Failcnt int64 `json:"failcnt,omitempty"`
	}
	netStats struct {
		Received int64 `json:"rx_bytes"`
		Sent     int64 `json:"tx_bytes"`
	}
	netsStats map[string]netStats
)

// stats reads a container's counters; nil when it does not run.
func (r *Runner) stats(ctx context.Context, s *Status, c *ContainerStatus) *dockerStats {
	st, err := r.Engine.Stats(ctx, c.ID)
	if err != nil {
		return nil
	}
	return statsOf(s, c, st)
}

func statsOf(s *Status, c *ContainerStatus, st engine.Stats) *dockerStats {
	d := &dockerStats{Read: st.Time.UTC(), Name: "/" + c.Name, ID: string(c.ID), PIDs: pidStats{st.Pids},
		Memory: memStats{Usage: st.Memory, Max: st.MemoryPeak, Limit: limits(&s.Task, s.find(c.Name)).Memory, Failcnt: st.OOMKills},
		Nets:   netsStats{"eth0": {st.Received, st.Sent}}}
	d.CPU.Usage.Total, d.CPU.Throttling.Time = int64(st.CPU), int64(st.Throttled)
	return d
}
