package daemon

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// applyChanges does what the lines of --change say: instructions of a Dockerfile that
// say something of an image's containers.
func applyChanges(c *container.Config, lines []string) error {
	for _, line := range lines {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		verb, rest = strings.ToUpper(verb), strings.TrimSpace(rest)
		if rest == "" {
			return badRequest("%s requires at least one argument", verb)
		}
		if err := change(c, verb, rest); err != nil {
			return err
		}
	}
	return nil
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
		for _, v := range all {
			if c.Volumes == nil {
				c.Volumes = map[string]struct{}{}
			}
			c.Volumes[v] = struct{}{}
		}
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "HEALTHCHECK":
		return changeHealth(c, rest)
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
			c.Env = append(slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") }), pair)
			continue
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[name] = value
	}
	return nil
}

// changeHealth reads NONE, or options and CMD with a command.
func changeHealth(c *container.Config, rest string) error {
	h := &container.HealthConfig{}
	for {
		word, more, _ := strings.Cut(strings.TrimSpace(rest), " ")
		name, value, option := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		if !strings.HasPrefix(word, "--") || !option {
			break
		}
		rest = more
		var err error
		switch times := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}; {
		case times[name] != nil:
			*times[name], err = time.ParseDuration(value)
		case name == "retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			return badRequest("unknown flag: %s", name)
		}
		if err != nil {
			return badRequest("invalid value %q of HEALTHCHECK --%s", value, name)
		}
	}
	kind, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	text = strings.TrimSpace(text)
	var all []string
	switch {
	case strings.EqualFold(kind, "NONE") && text == "":
		h.Test = []string{"NONE"}
	case !strings.EqualFold(kind, "CMD"):
		return badRequest("Unknown type %q in HEALTHCHECK (try CMD)", strings.ToUpper(kind))
	case text == "":
		return badRequest("Missing command after HEALTHCHECK CMD")
	case json.Unmarshal([]byte(text), &all) == nil:
		h.Test = append([]string{"CMD"}, all...)
	default:
		h.Test = []string{"CMD-SHELL", text}
	}
	c.Healthcheck = h
	return validateHealth(h)
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
