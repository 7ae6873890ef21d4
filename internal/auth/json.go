package auth

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// node is a JSON value with its place in the text. Policies are read into nodes
// because explanations need places and repeated names must be refused.
type node struct {
	kind       byte // 's' string, 'n' number, 'b' bool, '0' null, '[' array, '{' object
	text       string
	list       []node   // array's items, or object's values
	names      []string // of the object's values
	start, end int64    // byte offsets
}

var errJSON = errors.New("auth: not JSON")

const maxDepth = 12 // of a policy's JSON; a real one needs 6

// parseJSON reads one value and nothing after it.
func parseJSON(doc string) (node, error) {
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	n, err := parseNode(d, maxDepth)
	if err != nil {
		return node{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return node{}, errJSON
	}
	return n, nil
}

func parseNode(d *json.Decoder, depth int) (node, error) {
	t, err := d.Token()
	if err != nil || depth == 0 {
		return node{}, errJSON
	}
	n := node{end: d.InputOffset()}
	switch v := t.(type) {
	case string:
		n.kind, n.text = 's', v
	case json.Number:
		n.kind, n.text = 'n', v.String()
	case bool:
		n.kind, n.text = 'b', "false"
		if v {
			n.text = "true"
		}
	case nil:
		n.kind = '0'
	case json.Delim:
		n.kind, n.start = byte(v), n.end-1
		err = n.parseItems(d, depth)
	}
	return n, err
}

func (n *node) parseItems(d *json.Decoder, depth int) error {
	for d.More() {
		if n.kind == '{' {
			name, err := d.Token()
			if err != nil {
				return errJSON
			}
			text, _ := name.(string)
			for _, had := range n.names {
				if had == text {
					return errJSON
				}
			}
			n.names = append(n.names, text)
		}
		item, err := parseNode(d, depth-1)
		if err != nil {
			return err
		}
		n.list = append(n.list, item)
	}
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	n.end = d.InputOffset()
	return nil
}

// strings returns a string or a list of strings; scalars says that numbers and
// booleans are taken as text.
func (n *node) strings(scalars bool) ([]string, bool) {
	items := []node{*n}
	if n.kind == '[' {
		items = n.list
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		if item.kind != 's' && !(scalars && (item.kind == 'n' || item.kind == 'b')) {
			return nil, false
		}
		out = append(out, item.text)
	}
	return out, true
}

// position turns a byte offset into a line and column.
func position(doc string, offset int64) Position {
	before := doc[:min(int(offset), len(doc))]
	line := strings.Count(before, "\n") + 1
	return Position{Line: line, Column: len(before) - strings.LastIndexByte(before, '\n')}
}
