package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"skerry/internal/api/iam"
	"skerry/internal/api/lambda"
)

const (
	handler = "def handler(event, context):\n    return event\n"
	trust   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
)

// function is one of those that are measured.
type function struct {
	name, runtime, handler string
	code                   []byte
	own                    times // of the start of its interpreter or program, by itself
}

// measureLambda measures invocations of functions that are warm, and cold starts
// against the start of the interpreter by itself, in the same run.
func measureLambda(ctx context.Context, b *bench) error {
	if os.Geteuid() != 0 {
		b.table.add("functions", "", "not measured: sandboxes need root")
		return nil
	}
	functions, err := prepare(ctx)
	if err != nil {
		return err
	}
	return withServer(ctx, b, func(s *server) error {
		a := s.api()
		role, err := call[iam.CreateRoleOutput](ctx, a, iam.Schema, "CreateRole",
			&iam.CreateRoleInput{RoleName: new("bench"), AssumeRolePolicyDocument: new(trust)})
		if err != nil {
			return err
		}
		for _, f := range functions {
			if err := f.warm(ctx, b, a, *role.Role.Arn); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		for _, f := range functions {
			b.table.add(f.name+" by itself, start to end", "", "p50 %s", ms(f.own.at(0.5)))
			if err := f.cold(ctx, b, a, *role.Role.Arn, "fresh", "at most 10 ms more than by itself", 1024); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		// Interpreters are started ahead for functions that need nothing of their own
		// from the start; a larger /tmp is such a thing.
		return functions[0].cold(ctx, b, a, *role.Role.Arn, "pre-started", "below the interpreter by itself", 512)
	})
}

// prepare packs the functions and times their programs by themselves.
func prepare(ctx context.Context) ([]*function, error) {
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bootstrap")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "skerry/test/bench/bootstrap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, "/usr/bin/python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		return nil, fmt.Errorf("python3: %w", err)
	}
	python := &function{name: "Python", runtime: strings.TrimSpace(string(version)), handler: "handler.handler"}
	native := &function{name: "Go", runtime: "provided.al2023", handler: "bootstrap"}
	if python.code, err = zipped("handler.py", []byte(handler)); err != nil {
		return nil, err
	}
	if native.code, err = zipped("bootstrap", binary); err != nil {
		return nil, err
	}
	for range 21 {
		began := time.Now()
		if err := exec.CommandContext(ctx, "/usr/bin/python3", "-c", "pass").Run(); err != nil {
			return nil, err
		}
		python.own = append(python.own, time.Since(began))
		// Without an API to talk to, the program starts, fails and ends.
		began = time.Now()
		if _, failed := errors.AsType[*exec.ExitError](exec.CommandContext(ctx, program).Run()); !failed {
			return nil, errors.New("the program does not run")
		}
		native.own = append(native.own, time.Since(began))
	}
	return []*function{python, native}, nil
}

func zipped(name string, content []byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(0o755)
	w, err := z.CreateHeader(h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	err = z.Close()
	return b.Bytes(), err
}

// make creates a function of the kind and waits until it is active.
func (f *function) make(ctx context.Context, a *api, name, role string, storage int32) error {
	_, err := call[lambda.CreateFunctionOutput](ctx, a, lambda.Schema, "CreateFunction", &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: &f.runtime, Handler: &f.handler, Role: &role, MemorySize: new(int32(1769)), Timeout: new(int32(60)),
		Code: &lambda.FunctionCode{ZipFile: f.code}, EphemeralStorage: &lambda.EphemeralStorage{Size: &storage},
	})
	if err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		got, err := call[lambda.GetFunctionConfigurationOutput](ctx, a, lambda.Schema, "GetFunctionConfiguration", &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil || got.State == nil || *got.State == lambda.StateActive {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("it does not become active")
}

func invoke(ctx context.Context, a *api, name string) error {
	out, err := call[lambda.InvokeOutput](ctx, a, lambda.Schema, "Invoke", &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"a":1}`)})
	if err != nil {
		return err
	}
	if out.FunctionError != nil {
		return fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
	}
	return nil
}

// warm measures invocations of a function whose sandboxes run already.
func (f *function) warm(ctx context.Context, b *bench, a *api, role string) error {
	name := "warm-" + strings.ToLower(f.name)
	if err := f.make(ctx, a, name, role, 512); err != nil {
		return err
	}
	for _, n := range []int{1, 16} {
		act := func(int, int) error { return invoke(ctx, a, name) }
		if _, _, err := load(ctx, n, time.Second, act); err != nil { // which warms
			return err
		}
		took, rate, each, err := a.load(ctx, n, b.span, act)
		if err != nil {
			return err
		}
		bar := ""
		if n == 1 && f.name == "Go" {
			bar = "p50 1 ms"
		}
		b.table.add(fmt.Sprintf("warm invoke, %s (%s), %d at once", f.name, f.runtime, n), bar,
			"%.0f a second; p50 %s, p99 %s; %s", rate, ms(took.at(0.5)), ms(took.at(0.99)), each)
	}
	return nil
}

// cold measures the first invocation of functions that are new.
func (f *function) cold(ctx context.Context, b *bench, a *api, role, how, bar string, storage int32) error {
	var took times
	for i := range 21 {
		name := fmt.Sprintf("%s-%s-%d", how, strings.ToLower(f.name), i)
		if err := f.make(ctx, a, name, role, storage); err != nil {
			return err
		}
		// What the one before left to do is done by now, and another interpreter
		// started ahead.
		time.Sleep(250 * time.Millisecond)
		began := time.Now()
		if err := invoke(ctx, a, name); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	b.table.add(fmt.Sprintf("cold start, %s, %s, through the public API", f.name, how), bar, "p50 %s, p99 %s (%+.2f ms)",
		ms(took.at(0.5)), ms(took.at(0.99)), float64(took.at(0.5)-f.own.at(0.5))/float64(time.Millisecond))
	return nil
}
