package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

func (g *generator) typesFile() ([]byte, error) {
	var b bytes.Buffer
	for _, op := range g.built {
		o := g.m.Operations.by[op]
		fmt.Fprintf(&b, "// %sInput is the input of %s.\n", op, op)
		g.structType(&b, op+"Input", o.Input, false)
		fmt.Fprintf(&b, "// %sOutput is the output of %s.\n", op, op)
		g.structType(&b, op+"Output", o.Output, true)
	}
	for _, s := range slices.Sorted(maps.Keys(g.nested)) {
		if sh := g.m.Shapes.by[s]; sh.Error == nil {
			kind := "structure"
			if sh.Type == "union" {
				kind = "union: exactly one member is set; the"
			}
			name := goName(s)
			if slices.Contains(g.allow.packed, s) {
				name = unpacked(name)
			}
			fmt.Fprintf(&b, "// %s is the %s %s of the model.\n", name, kind, s)
			g.structType(&b, name, s, false)
		}
	}
	comment := fmt.Sprintf("// Package %s holds the inputs, outputs, errors and the schema of %s,\n// API version %s.\n", g.allow.pkg, g.m.Title, g.m.APIVersion)
	return g.source(comment, &b)
}

func (g *generator) structType(b *bytes.Buffer, name, shape string, output bool) {
	s := g.m.Shapes.by[shape]
	if len(s.Members.names) == 0 {
		fmt.Fprintf(b, "type %s struct{}\n\n", name)
		return
	}
	fmt.Fprintf(b, "type %s struct {\n", name)
	g.fields(b, s, output)
	b.WriteString("}\n\n")
}

func (g *generator) fields(b *bytes.Buffer, s shape, output bool) {
	for _, m := range s.Members.names {
		r := s.Members.by[m]
		t := g.goType(r.Shape, false)
		switch target := g.m.Shapes.by[r.Shape]; {
		case target.EventStream:
			t = "wire.EventStream[" + goName(r.Shape) + "]"
		case target.Type == "blob" && (r.Streaming || target.Streaming):
			t = "io.Reader"
			if output {
				t = "io.ReadCloser"
			}
		}
		fmt.Fprintf(b, "%s %s\n", goName(m), t)
	}
}

// errorsFile makes a type for each modelled error.
func (g *generator) errorsFile() ([]byte, error) {
	if len(g.errs) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	for _, name := range g.errs {
		s := g.m.Shapes.by[name]
		n := goName(name)
		message := ""
		for _, m := range s.Members.names {
			if strings.EqualFold(m, "message") {
				message = goName(m)
			}
		}
		fmt.Fprintf(&b, "// %s is an error of the model.\ntype %s struct {\n", n, n)
		g.fields(&b, s, true)
		if message == "" {
			message = "Message"
			b.WriteString("Message *string // not in the model\n")
		}
		b.WriteString("}\n\n")
		code := name
		if s.Error.Code != "" {
			code = s.Error.Code
		}
		fmt.Fprintf(&b, "// Error implements error.\nfunc (e *%s) Error() string { return %q + wire.Value(e.%s) }\n\n", n, code+": ", message)
		fmt.Fprintf(&b, "// ErrorCode returns the code that a client sees.\nfunc (e *%s) ErrorCode() string { return %q }\n\n", n, code)
		fmt.Fprintf(&b, "// ErrorMessage returns the text that a client sees.\nfunc (e *%s) ErrorMessage() string { return wire.Value(e.%s) }\n\n", n, message)
		fmt.Fprintf(&b, "// ErrorShape implements wire.ModelledError.\nfunc (e *%s) ErrorShape() (*wire.Service, uint16) { return Schema, %d }\n\n", n, g.index[name])
	}
	return g.source("", &b)
}

// maxEnum leaves out constants of very long enumerations (instance types).
const maxEnum = 200

func (g *generator) enumsFile() ([]byte, error) {
	var b bytes.Buffer
	for _, name := range g.shapes {
		s := g.m.Shapes.by[name]
		if len(s.Enum) == 0 || len(s.Enum) > maxEnum {
			continue
		}
		var lines []string
		for _, v := range s.Enum {
			id := goName(name) + words(v)
			if id == goName(name) || g.taken[id] {
				continue
			}
			g.taken[id] = true
			lines = append(lines, fmt.Sprintf("%s = %q\n", id, v))
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "// The values of %s.\nconst (\n%s)\n\n", name, strings.Join(lines, ""))
		}
	}
	if b.Len() == 0 {
		return nil, nil
	}
	return g.source("", &b)
}

// words turns a value such as "s3:ObjectCreated:*" or "IN_PROGRESS" into the
// rest of an identifier: S3ObjectCreatedAll, InProgress.
func words(v string) string {
	v = strings.ReplaceAll(v, "*", "All")
	parts := strings.FieldsFunc(v, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	var out strings.Builder
	for i, p := range parts {
		if p == strings.ToUpper(p) && len(p) > 1 {
			p = p[:1] + strings.ToLower(p[1:])
		}
		if i > 0 && unicode.IsDigit(rune(p[0])) && unicode.IsDigit(rune(parts[i-1][len(parts[i-1])-1])) {
			out.WriteByte('_')
		}
		out.WriteString(strings.ToUpper(p[:1]) + p[1:])
	}
	return out.String()
}
