package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"skerry/internal/auth"
	"skerry/internal/wire"
)

// api is a client of a server that speaks the AWS protocols.
type api struct {
	endpoint string
	key      auth.Credential
	http     *http.Client
	pid      int // of the server
}

func newAPI(endpoint, key, secret string, pid int) *api {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.DisableCompression = 256, true
	return &api{endpoint, auth.Credential{AccessKey: key, Secret: secret}, &http.Client{Transport: t}, pid}
}

func (s *server) api() *api { return newAPI(s.endpoint, "test", "test", s.cmd.Process.Pid) }

// do signs a request and returns the answer's body.
func (a *api) do(r *http.Request, service string, body []byte) ([]byte, error) {
	auth.Sign(r, a.key, "us-east-1", service, body, time.Now())
	answer, err := a.http.Do(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // it was read to its end
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.300s", r.Method, r.URL.Path, answer.Status, b)
	}
	return b, err
}

// call runs an operation that has no streams.
func call[O any](ctx context.Context, a *api, service *wire.Service, operation string, in any) (*O, error) {
	speaker := wire.Client{Service: service, Protocol: service.Protocols[0], Endpoint: a.endpoint}
	r, err := speaker.Request(ctx, operation, in)
	if err != nil {
		return nil, err
	}
	var body []byte
	if r.GetBody != nil {
		rc, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(rc); err != nil {
			return nil, err
		}
	}
	auth.Sign(r, a.key, "us-east-1", service.SigningName, body, time.Now())
	answer, err := a.http.Do(r)
	if err != nil {
		return nil, err
	}
	out := new(O)
	if err := speaker.Response(operation, answer, out); err != nil {
		return nil, fmt.Errorf("%s %s: %w", service.ID, operation, err)
	}
	return out, nil
}

// load has n clients do something over and over, and says besides how much
// processor time the server took for each: on a shared machine the rate tells
// as much of the clients.
func (a *api) load(ctx context.Context, n int, span time.Duration, act func(client, turn int) error) (took times, rate float64, each string, err error) {
	before := processor(a.pid)
	took, rate, err = load(ctx, n, span, act)
	used := processor(a.pid) - before
	return took, rate, fmt.Sprintf("%.0f µs of the server's processor time each", float64(used.Microseconds())/float64(max(1, len(took)))), err
}

// processor returns the processor time that a process has taken, 0 if it is gone.
func processor(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // after the name: state is field 3, user and system time 14 and 15
	fields := strings.Fields(rest)
	var ticks int
	for _, i := range []int{14 - 3, 15 - 3} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// load has n clients do something over and over, for a time. It returns how long
// each act took, and how many a second were done in all.
func load(ctx context.Context, n int, span time.Duration, act func(client, turn int) error) (times, float64, error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   times
		first error
	)
	began := time.Now()
	for client := range n {
		wg.Go(func() {
			var mine times
			for turn := 0; ctx.Err() == nil; turn++ {
				at := time.Now()
				if err := act(client, turn); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					cancel()
					return
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return all, float64(len(all)) / time.Since(began).Seconds(), first
}
