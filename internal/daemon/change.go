package daemon

import (
	"encoding/json"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// readChanges reads the lines of --change: instructions of a Dockerfile that say
// something of an image's containers.
func readChanges(lines []string) (*container.Config, error) {
	c := &container.Config{}
	for _, line := range lines {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		verb, rest = strings.ToUpper(verb), strings.TrimSpace(rest)
		if rest == "" {
			return nil, badRequest("%s requires at least one argument", verb)
		}
		if err := change(c, verb, rest); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func change(c *container.Config, verb, rest string) error {
	switch verb {
	case "CMD":
		c.Cmd = commandOf(rest)
	case "ENTRYPOINT":
		c.Entrypoint = commandOf(rest)
	case "USER":
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = rest
	case "STOPSIGNAL":
		if _, err := signalOf(rest); err != nil {
			return err
		}
		c.StopSignal = rest
	case "EXPOSE":
		for _, text := range strings.Fields(rest) {
			p, err := network.ParsePort(text)
			if err != nil {
				return badRequest("invalid containerPort: %s", text)
			}
			if c.ExposedPorts == nil {
				c.ExposedPorts = network.PortSet{}
			}
			c.ExposedPorts[p] = struct{}{}
		}
	case "VOLUME":
		var all []string
		if json.Unmarshal([]byte(rest), &all) != nil {
			all = strings.Fields(rest)
		}
		c.Volumes = setOf(all)
	case "ENV", "LABEL":
		return changePairs(c, verb, rest)
	default:
		return badRequest("%s is not a valid change command", verb)
	}
	return nil
}

// commandOf reads a JSON array, or a line for the shell.
func commandOf(text string) []string {
	var all []string
	if json.Unmarshal([]byte(text), &all) == nil {
		return all
	}
	return []string{"/bin/sh", "-c", text}
}

// changePairs reads NAME=VALUE ..., where values may be quoted, or NAME VALUE.
func changePairs(c *container.Config, verb, rest string) error {
	pairs, err := words(rest)
	if err != nil {
		return err
	}
	if name, value, ok := strings.Cut(rest, " "); ok && !strings.Contains(name, "=") {
		pairs = []string{name + "=" + strings.TrimSpace(value)}
	}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return badRequest("Syntax error - can't find = in %q. Must be of the form: name=value", pair)
		}
		if verb == "ENV" {
			c.Env = append(c.Env, pair)
			continue
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[name] = value
	}
	return nil
}

// words splits a line at blanks that are neither quoted nor escaped.
func words(text string) (all []string, err error) {
	var word strings.Builder
	begun, escaped, quote := false, false, rune(0)
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			begun, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			begun, quote = true, r
		case quote == 0 && (r == ' ' || r == '\t'):
			if begun {
				all = append(all, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, badRequest("unexpected end of statement while looking for matching quote in %q", text)
	}
	if begun {
		all = append(all, word.String())
	}
	return all, nil
}
