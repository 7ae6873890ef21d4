package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// allowList is one file of the services folder: which model a package is made
// of and which of its operations get structs.
type allowList struct {
	pkg        string
	model      string
	all        bool
	operations map[string]bool
	maxRequest string
	strings    []string // shapes that are text, whatever the model says
	open       []string // shapes whose enumeration the service checks itself
	packed     []string // structures whose Go type is written by hand
	validation string
	wordings   [][2]string    // a pattern and the service's own text for it
	statuses   map[string]int // of operations that answer another one than the model says
}

// readAllowList reads lines of "model <file>", "all", "max-request <bytes>",
// "wording <pattern> <text>", "validation <code>", "string <shape>", "open <shape>",
// "packed <shape>", "status <operation> <code>" or an operation's name; # begins a
// comment.
func readAllowList(path string) (*allowList, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	a := &allowList{pkg: strings.TrimSuffix(filepath.Base(path), ".txt"), operations: map[string]bool{}, statuses: map[string]int{}}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "model" && len(words) == 2:
			a.model = words[1]
		case words[0] == "max-request" && len(words) == 2:
			a.maxRequest = words[1]
		case words[0] == "wording" && len(words) > 2:
			_, text, _ := strings.Cut(line, words[1])
			a.wordings = append(a.wordings, [2]string{words[1], strings.TrimSpace(text)})
		case words[0] == "validation" && len(words) == 2:
			a.validation = words[1]
		case words[0] == "status" && len(words) == 3:
			if a.statuses[words[1]], err = strconv.Atoi(words[2]); err != nil {
				return nil, fmt.Errorf("%s: cannot read %q", path, line)
			}
		case words[0] == "open" && len(words) == 2:
			a.open = append(a.open, words[1])
		case words[0] == "packed" && len(words) == 2:
			a.packed = append(a.packed, words[1])
		case words[0] == "string" && len(words) == 2:
			a.strings = append(a.strings, words[1])
		case len(words) == 1 && words[0] == "all":
			a.all = true
		case len(words) == 1:
			a.operations[words[0]] = true
		default:
			return nil, fmt.Errorf("%s: cannot read %q", path, line)
		}
	}
	if a.model == "" {
		a.model = a.pkg
	}
	return a, nil
}

func (a *allowList) allows(op string) bool { return a.all || a.operations[op] }

// apply makes the allow-list's changes to the model.
func (a *allowList) apply(m *model) error {
	for _, name := range slices.Concat(a.strings, a.open, a.packed) {
		if _, ok := m.Shapes.by[name]; !ok {
			return fmt.Errorf("%s has no shape %s", a.model, name)
		}
	}
	for name, code := range a.statuses {
		o, ok := m.Operations.by[name]
		if !ok {
			return fmt.Errorf("%s has no operation %s", a.model, name)
		}
		o.Status = code
		m.Operations.by[name] = o
	}
	for _, name := range a.strings {
		m.Shapes.by[name] = shape{Type: "string"}
	}
	for _, name := range a.open {
		s := m.Shapes.by[name]
		s.Open = true
		m.Shapes.by[name] = s
	}
	return nil
}

func (a *allowList) check(m *model) error {
	for op := range a.operations {
		if _, ok := m.Operations.by[op]; !ok {
			return fmt.Errorf("%s has no operation %s", a.model, op)
		}
	}
	return nil
}
