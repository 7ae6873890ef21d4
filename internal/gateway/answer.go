package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"syscall"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/wire"
)

// answer is a request's way back: what is known of it so far, and the writer,
// which remembers what was written.
type answer struct {
	g      *Gateway
	w      http.ResponseWriter
	r      *http.Request
	id     string
	start  time.Time
	to     destination
	call   *wire.Call
	scope  auth.Scope
	status int
	bytes  int64
	err    error
}

func newAnswer(g *Gateway, w http.ResponseWriter, r *http.Request) *answer {
	return &answer{g: g, w: w, r: r, id: ids.UUID(), start: g.clock.Now()}
}

// arrived notes the service that the request is for. S3's request ids have a
// form of their own.
func (a *answer) arrived(to destination) {
	a.to = to
	if to.service != nil && to.service.api.NoErrorWrapping {
		a.id = ids.Unique("", 16)
	}
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.w.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.w.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection, to flush.
func (a *answer) Unwrap() http.ResponseWriter { return a.w }

// Flush implements http.Flusher, for event streams.
func (a *answer) Flush() { _ = http.NewResponseController(a.w).Flush() } // a broken connection shows in the next write

// encode answers with an operation's output.
func (a *answer) encode(out any) error { return a.call.Encode(a, out, a.id) }

// fail answers with an error, in the protocol of the request as far as it is
// known. Once the answer has begun, only breaking the connection tells the
// client.
func (a *answer) fail(err error) {
	a.err = err
	if errors.Is(err, wire.ErrStarted) || a.status != 0 {
		panic(http.ErrAbortHandler)
	}
	call := a.call
	if call == nil {
		call = a.to.unknownCall()
	}
	call.EncodeError(a, told(err), a.id)
}

// told is the error as the client hears it: of the machine's own troubles, one
// is worth telling.
func told(err error) error {
	if isOurs(err) && errors.Is(err, syscall.ENOSPC) {
		return awserr.New(http.StatusServiceUnavailable, "ServiceUnavailable", "The disk of this cloud is full. Nothing was stored; make room and try again.")
	}
	return err
}

// end writes the request's line in the log; a fault of ours is an error there,
// with all that is known, and counted.
func (a *answer) end() {
	took := a.g.clock.Now().Sub(a.start)
	ours := a.err != nil && isOurs(a.err) && a.r.Context().Err() == nil
	level := slog.LevelDebug
	if ours {
		a.g.failures.Add(1)
		level = slog.LevelError
	}
	ctx := a.r.Context()
	if !a.g.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("id", a.id), slog.String("method", a.r.Method), slog.String("path", a.r.URL.Path),
		slog.Int("status", a.status), slog.Int64("bytes", a.bytes), slog.Duration("took", took),
		slog.String("from", a.r.RemoteAddr), slog.String("principal", a.scope.Principal.ARN),
	}
	if a.to.service != nil {
		attrs = append(attrs, slog.String("service", a.to.service.api.ID))
	}
	if a.call != nil && a.call.Operation != nil {
		attrs = append(attrs, slog.String("operation", a.call.Operation.Name))
	}
	if a.err != nil {
		attrs = append(attrs, slog.String("error", a.err.Error()))
	}
	a.g.log.LogAttrs(ctx, level, "request", attrs...)
}

// logCall is end for calls from inside.
func (g *Gateway) logCall(ctx context.Context, sc auth.Scope, svc *service, operation string, took time.Duration, err error) {
	level := slog.LevelDebug
	if err != nil && isOurs(err) && ctx.Err() == nil {
		g.failures.Add(1)
		level = slog.LevelError
	}
	if !g.log.Enabled(ctx, level) {
		return
	}
	who := sc.Principal.ARN
	if who == "" {
		who = sc.Principal.Service
	}
	attrs := []slog.Attr{
		slog.String("id", sc.Request.ID), slog.String("service", svc.api.ID), slog.String("operation", operation),
		slog.String("principal", who), slog.Duration("took", took),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	g.log.LogAttrs(ctx, level, "call", attrs...)
}

// isOurs tells whether an error is a fault of ours: it has no AWS code.
func isOurs(err error) bool {
	_, customer := errors.AsType[awserr.API](err)
	return !customer
}

// panicked makes an error of a recovered panic, with the stack for the log.
func panicked(v any) error {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	return fmt.Errorf("gateway: panic: %v\n%s", v, debug.Stack())
}

// typeOf returns the struct type that a pointer points to.
func typeOf(p any) reflect.Type {
	t := reflect.TypeOf(p)
	if t == nil || t.Kind() != reflect.Pointer {
		return nil
	}
	return t.Elem()
}
