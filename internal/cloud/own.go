package cloud

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sort"
	"strings"
	"time"
)

// isOwn tells whether a request is for the cloud's own pages.
func isOwn(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/_skerry/") || r.URL.Path == "/_skerry" || strings.HasPrefix(r.URL.Path, "/_localstack/")
}

// ownPages serves status, health, metrics, the reset, and the status page.
func (c *Cloud) ownPages(page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /_skerry/status":
			writeJSON(w, http.StatusOK, c.Status(r.Context()))
		case "GET /_skerry/health", "HEAD /_skerry/health", "GET /_localstack/health", "HEAD /_localstack/health":
			writeJSON(w, http.StatusOK, c.health())
		case "GET /_skerry/metrics":
			c.metrics(w)
		case "GET /_skerry/ca.pem":
			w.Header().Set("Content-Type", "application/x-pem-file")
			_, _ = w.Write(c.authority.PEM()) // a client that is gone
		case "POST /_skerry/reset", "POST /_localstack/state/reset":
			c.serveReset(w, r)
		case "GET /_skerry":
			http.Redirect(w, r, "/_skerry/", http.StatusMovedPermanently)
		default:
			if r.URL.Path == imagesPath || strings.HasPrefix(r.URL.Path, imagesPath+"/") {
				c.serveImages(w, r)
				return
			}
			page.ServeHTTP(w, r)
		}
	})
}

// serveReset erases all state, for those who are on this machine and not a web
// page.
func (c *Cloud) serveReset(w http.ResponseWriter, r *http.Request) {
	if !c.local(w, r, "a reset") {
		return
	}
	if err := c.reset(r.Context()); err != nil {
		c.log.Error("reset", "error", err)
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "erased"})
}

// local answers a refusal unless the request is from this machine, not from a web
// page, and the cloud listens on loopback alone.
func (c *Cloud) local(w http.ResponseWriter, r *http.Request, what string) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() || !c.config.Loopback() {
		writeJSON(w, http.StatusForbidden, map[string]string{"error": what + " is for a cloud that listens on loopback alone"})
		return false
	}
	if foreign(r) {
		writeJSON(w, http.StatusForbidden, map[string]string{"error": what + " does not come from a web page"})
		return false
	}
	return true
}

// foreign tells whether a browser sent the request for another site's page, or
// under a name that is not this machine's.
func foreign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return true
	}
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		if err != nil || u.Host != r.Host {
			return true
		}
	}
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name != "localhost" && !strings.HasSuffix(name, ".localhost") && (ip == nil || !ip.IsLoopback())
}

// health is the answer that wrappers of local clouds wait for.
func (c *Cloud) health() map[string]any {
	services := map[string]string{}
	for _, s := range c.parts.Load().services {
		services[s.API.ID] = "running"
	}
	return map[string]any{"services": services, "edition": "skerry", "version": c.config.Version}
}

// metrics writes the Prometheus text format, version 0.0.4.
func (c *Cloud) metrics(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	p := c.parts.Load()
	metric(w, "skerry_uptime_seconds", "gauge", "Time since the start.", time.Since(c.started).Seconds())
	metric(w, "skerry_requests_total", "counter", "AWS requests served.", float64(p.gateway.Requests()))
	metric(w, "skerry_failures_total", "counter", "Requests and calls that failed by a fault of the cloud itself.", float64(p.gateway.Failures()))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	metric(w, "skerry_heap_bytes", "gauge", "Memory in use by Go.", float64(m.HeapAlloc))
	metric(w, "skerry_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine()))
	fmt.Fprintf(w, "# HELP skerry_loop_runs_total Runs of a background loop.\n# TYPE skerry_loop_runs_total counter\n")
	loops := p.loops.Status()
	sort.Slice(loops, func(i, j int) bool { return loops[i].Name < loops[j].Name })
	for _, l := range loops {
		fmt.Fprintf(w, "skerry_loop_runs_total{loop=%q} %d\n", l.Name, l.Runs)
	}
	fmt.Fprintf(w, "# HELP skerry_loop_failures_total Failed runs of a background loop.\n# TYPE skerry_loop_failures_total counter\n")
	for _, l := range loops {
		fmt.Fprintf(w, "skerry_loop_failures_total{loop=%q} %d\n", l.Name, l.Failures)
	}
}

func metric(w io.Writer, name, kind, help string, value float64) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %g\n", name, help, name, kind, name, value)
}
