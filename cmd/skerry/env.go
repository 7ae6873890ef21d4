package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"skerry/internal/cloud"
)

// env prints the lines that point AWS clients at the cloud: the variables that
// every AWS SDK and the CLI read ("AWS SDKs and Tools Reference Guide:
// environment variables").
func env(_ context.Context, args []string, out io.Writer) error {
	var t target
	f := flagSet("env", "print the lines that point AWS clients at the cloud")
	t.flags(f)
	shell := f.String("shell", guessShell(), "sh, fish or powershell")
	https := f.Bool("tls", false, "an https endpoint, with the certificate bundle that it needs")
	docker := f.Bool("docker", false, "the socket for docker clients as well")
	if err := parse(f, args); err != nil {
		return err
	}
	s, err := t.server()
	if err != nil {
		return err
	}
	key, err := t.key(s)
	if err != nil {
		return err
	}
	if *https {
		s.Endpoint = strings.Replace(s.Endpoint, "http://", "https://", 1)
	}
	vars := variables(s, key, *https)
	if *docker {
		if s.Docker == "" {
			return errors.New("this cloud serves no socket for docker clients")
		}
		vars = append(vars, [2]string{"DOCKER_HOST", "unix://" + s.Docker})
	}
	for _, v := range vars {
		line, err := assignment(*shell, v[0], v[1])
		if err != nil {
			return err
		}
		fmt.Fprintln(out, line)
	}
	return nil
}

// variables lists what a client needs to know.
func variables(s cloud.Server, key cloud.RootKey, https bool) [][2]string {
	v := [][2]string{
		{"AWS_ENDPOINT_URL", s.Endpoint},
		{"AWS_ACCESS_KEY_ID", key.ID},
		{"AWS_SECRET_ACCESS_KEY", key.Secret},
		{"AWS_REGION", s.Region},
		{"AWS_DEFAULT_REGION", s.Region},
	}
	if https && s.Bundle != "" {
		v = append(v, [2]string{"AWS_CA_BUNDLE", s.Bundle}, [2]string{"NODE_EXTRA_CA_CERTS", s.Bundle})
	}
	return v
}

// assignment writes one exported variable in a shell's language.
func assignment(shell, name, value string) (string, error) {
	switch shell {
	case "sh", "bash", "zsh", "dash", "ksh":
		return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'", nil
	case "fish":
		return "set -gx " + name + " '" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(value) + "'", nil
	case "powershell", "pwsh":
		return "$Env:" + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'", nil
	}
	return "", fmt.Errorf("--shell %q is none of sh, fish, powershell", shell)
}

// guessShell names the shell that the user runs.
func guessShell() string {
	switch filepath.Base(os.Getenv("SHELL")) {
	case "fish":
		return "fish"
	case "pwsh":
		return "powershell"
	}
	return "sh"
}
