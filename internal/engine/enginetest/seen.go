package enginetest

import (
	"strings"
	"sync"
	"time"
)

// seen is a writer whose text can be waited for.
type seen struct {
	mu      sync.Mutex
	b       strings.Builder
	changed chan struct{} // holds one
}

func (w *seen) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (w *seen) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// until waits for a text.
func (w *seen) until(s *suite, want string) {
	s.Helper()
	late := time.After(patience)
	for !strings.Contains(w.text(), want) {
		select {
		case <-w.changed:
		case <-late:
			s.Fatalf("no %q in %q", want, w.text())
		}
	}
}
