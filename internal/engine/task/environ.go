package task

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strings"

	"skerry/internal/engine"
)

// environment is what was read for a task's containers, by their names: the
// variables of environment files and of secrets. It is kept in memory only.
type environment map[string]struct{ files, secrets []Variable }

// prepare reads the task's environment files and secrets. A fault of theirs is
// an initError.
func (r *Runner) prepare(ctx context.Context, t *Task) (environment, error) {
	r.mu.Lock()
	known, ok := r.mu.environ[t.ID]
	r.mu.Unlock()
	if ok {
		return known, nil
	}
	env := environment{}
	for i := range t.Containers {
		c := &t.Containers[i]
		of := env[c.Name]
		seen := map[string]bool{}
		for _, name := range c.EnvironmentFiles {
			b, err := r.File(ctx, t, name)
			var vars []Variable
			if err == nil {
				vars, err = parseEnvironmentFile(b)
			}
			if err != nil {
				return nil, &initError{what: "failed to download env files: file download command", err: fmt.Errorf("%s: %w", name, err)}
			}
			for _, v := range vars {
				if !seen[v.Name] { // the first file that has it counts
					seen[v.Name] = true
					of.files = append(of.files, v)
				}
			}
		}
		for _, s := range c.Secrets {
			value, err := r.Secret(ctx, t, s.ValueFrom)
			if err != nil {
				return nil, secretFault(s.ValueFrom, err)
			}
			if strings.ContainsRune(value, 0) {
				return nil, secretFault(s.ValueFrom, fmt.Errorf("the value of %s holds a zero byte", s.ValueFrom))
			}
			of.secrets = append(of.secrets, Variable{s.Name, value})
		}
		env[c.Name] = of
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.environ[t.ID] = env
	return env, nil
}

// secretFault words a fault as Fargate does: by the service that keeps the
// secret.
func secretFault(from string, err error) error {
	what := "unable to pull secrets or registry auth: execution resource retrieval failed: "
	if strings.Contains(from, ":secretsmanager:") {
		what += "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret " + from + " from secrets manager"
	} else {
		what += "unable to retrieve secrets from ssm: service call has been retried 1 time(s)"
	}
	return &initError{what: what, err: err}
}

// parseEnvironmentFile reads an environment file: lines NAME=value. Lines that
// begin with # and lines without = are comments; nothing is quoted or expanded,
// and spaces count.
func parseEnvironmentFile(b []byte) (vars []Variable, err error) {
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, fmt.Errorf("a zero byte")
	}
	at := map[string]int{}
	for scan := bufio.NewScanner(bytes.NewReader(b)); ; {
		if !scan.Scan() {
			return vars, scan.Err()
		}
		line := scan.Text()
		name, value, ok := strings.Cut(line, "=")
		if strings.HasPrefix(line, "#") || !ok || name == "" {
			continue
		}
		if i, again := at[name]; again {
			vars[i].Value = value // of one file's, the last counts
			continue
		}
		at[name] = len(vars)
		vars = append(vars, Variable{name, value})
	}
}

func (r *Runner) applyPrepare(ctx context.Context, v *view) error {
	err := r.makeVolumes(ctx, v.spec)
	if err == nil {
		_, err = r.prepare(ctx, v.spec)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		v.stop(FailedToStart, err.Error())
		return nil
	}
	v.prepared = true
	return nil
}

// environ is the environment of a container. Later ones replace earlier ones of
// their name: image, what the runner gives, files, definition, secrets.
func (r *Runner) environ(v *view, c *Container, image *engine.ImageConfig, read environment) []string {
	var all []Variable
	if r.Environment != nil {
		all = append(all, r.Environment(v.spec, c)...)
	}
	all = append(all, r.insideEnvironment(v, c)...)
	all = append(all, read[c.Name].files...)
	all = append(all, c.Environment...)
	all = append(all, read[c.Name].secrets...)
	given := make([]string, len(all))
	for i, e := range all {
		given[i] = e.Name + "=" + e.Value
	}
	return image.Environ(given)
}
