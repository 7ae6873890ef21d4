package cloud

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Status is what GET /_skerry/status answers.
type Status struct {
	Version       string          `json:"version"`
	Account       string          `json:"account"`
	Region        string          `json:"region"`
	Endpoint      string          `json:"endpoint"`
	Data          string          `json:"data"`
	Started       time.Time       `json:"started"`
	UptimeSeconds int64           `json:"uptimeSeconds"`
	Services      []ServiceStatus `json:"services"`
	Loops         []LoopStatus    `json:"loops"`
	Engine        EngineStatus    `json:"engine"`
	Off           []Check         `json:"off"`      // what lacks privilege or a tool
	Failures      uint64          `json:"failures"` // internal failures since the start; anything but zero is a bug
}

// ServiceStatus tells how much of a service is built.
type ServiceStatus struct {
	ID         string   `json:"id"`
	Operations int      `json:"operations"` // of the model
	Built      []string `json:"built"`      // by name, sorted
}

// LoopStatus tells how a background loop fares.
type LoopStatus struct {
	Name     string `json:"name"`
	Does     string `json:"does"`
	Period   string `json:"period"`
	Runs     int64  `json:"runs"`
	Last     string `json:"last"` // RFC 3339; empty before the first run
	Duration string `json:"duration"`
	Report   string `json:"report"`
	Error    string `json:"error,omitempty"`
	Next     string `json:"next"`
}

// EngineStatus tells what runs containers and functions.
type EngineStatus struct {
	Driver     string `json:"driver"`
	Version    string `json:"version"` // of the supervisor; empty where there is none
	Runs       bool   `json:"runs"`    // containers can run at all
	Cgroups    int    `json:"cgroups"` // version of the control groups; 0 for none
	Outside    bool   `json:"outside"` // sandboxes reach the outside world
	Containers int    `json:"containers"`
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client is gone; there is nobody to tell
}

// Status tells how the cloud is.
func (c *Cloud) Status(ctx context.Context) Status {
	p := c.parts.Load()
	s := Status{
		Version: c.config.Version, Account: c.config.Account, Region: c.config.Region, Endpoint: c.endpoint,
		Data: c.config.Data, Started: c.started, UptimeSeconds: int64(time.Since(c.started) / time.Second),
		Failures: p.gateway.Failures(),
	}
	s.Engine, s.Off = c.engineStatus(ctx)
	for _, svc := range p.services {
		one := ServiceStatus{ID: svc.API.ID, Operations: len(svc.API.Operations)}
		for _, o := range svc.Operations {
			one.Built = append(one.Built, o.Name)
		}
		slices.Sort(one.Built)
		s.Services = append(s.Services, one)
	}
	for _, l := range p.loops.Status() {
		s.Loops = append(s.Loops, LoopStatus{
			Name: l.Name, Does: l.Does, Period: l.Period.String(), Runs: l.Runs, Last: stamp(l.Last),
			Duration: l.Duration.String(), Report: l.Report, Error: l.Error, Next: stamp(l.Next),
		})
	}
	return s
}

// engineTime is how long a status waits for the engine's supervisor.
const engineTime = 2 * time.Second

// engineStatus asks the engine how it is, and what is off on this machine.
func (c *Cloud) engineStatus(ctx context.Context) (EngineStatus, []Check) {
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	info, err := c.engine.Info(ctx)
	if err != nil {
		return EngineStatus{}, []Check{{What: "functions and containers", Why: err.Error(), Mend: "skerry doctor --data " + c.config.Data}}
	}
	s := EngineStatus{Driver: info.Driver, Version: info.Version, Runs: info.Runs, Cgroups: info.Cgroups, Outside: info.Outside}
	if list, err := c.engine.List(ctx); err == nil {
		s.Containers = len(list)
	}
	return s, lacking(info)
}

// stamp writes a time, or nothing for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
