//go:build linux && amd64

package supervisor

import "sync"

// janitor does work after a container's end, on the side. Unlike a WaitGroup it
// may be given more while somebody waits for it.
type janitor struct {
	mu   sync.Mutex
	left int
	idle chan struct{} // closed when nothing is left; nil when nobody waits
}

// Go does work on the side.
func (j *janitor) Go(work func()) {
	j.mu.Lock()
	j.left++
	j.mu.Unlock()
	go func() {
		defer j.done()
		work()
	}()
}

func (j *janitor) done() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.left--; j.left == 0 && j.idle != nil {
		close(j.idle)
		j.idle = nil
	}
}

// Wait returns at a moment when nothing is left.
func (j *janitor) Wait() {
	j.mu.Lock()
	if j.left == 0 {
		j.mu.Unlock()
		return
	}
	if j.idle == nil {
		j.idle = make(chan struct{})
	}
	idle := j.idle
	j.mu.Unlock()
	<-idle
}
