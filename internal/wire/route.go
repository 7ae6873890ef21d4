package wire

import (
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"

	"skerry/internal/base/awserr"
)

// pair is a parameter.
type pair struct{ name, value string }

// route is an operation's URI template, taken apart.
type route struct {
	op     *Operation
	labels []string // names of the labels in order
	query  []pair   // literal parameters; an empty value matches any
	needs  []need   // required members in the query and the headers
}

type need struct {
	name   string
	header bool
}

// node is a place in the tree of a method's paths.
type node struct {
	literal map[string]*node
	label   *node
	greedy  *node
	routes  []*route
}

type routerCache struct {
	once    sync.Once
	methods map[string]*node
}

func (s *Service) routes() map[string]*node {
	s.router.once.Do(func() {
		s.router.methods = map[string]*node{}
		for i := range s.Operations {
			s.addRoute(&s.Operations[i])
		}
	})
	return s.router.methods
}

func (s *Service) addRoute(op *Operation) {
	method := op.Method
	if method == "" {
		method = "POST"
	}
	at := s.router.methods[method]
	if at == nil {
		at = &node{}
		s.router.methods[method] = at
	}
	rt := &route{op: op}
	path, query, _ := strings.Cut(op.URI, "?")
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		name, label := strings.CutPrefix(segment, "{")
		switch {
		case segment == "":
		case label && strings.HasSuffix(name, "+}"):
			rt.labels = append(rt.labels, strings.TrimSuffix(name, "+}"))
			at = child(&at.greedy)
		case label:
			rt.labels = append(rt.labels, strings.TrimSuffix(name, "}"))
			at = child(&at.label)
		default:
			if at.literal == nil {
				at.literal = map[string]*node{}
			}
			next := at.literal[segment]
			at.literal[segment] = child(&next)
			at = next
		}
	}
	for part := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(part, "="); name != "" {
			rt.query = append(rt.query, pair{name, value})
		}
	}
	for _, m := range s.Shapes[op.Input].Members {
		if m.Is&Required != 0 && (m.In == InQuery || m.In == InHeader) {
			rt.needs = append(rt.needs, need{needName(&m), m.In == InHeader})
		}
	}
	at.routes = append(at.routes, rt)
}

// needName is a member's name as the query or http.Header keeps it.
func needName(m *Member) string {
	if m.In == InHeader {
		return textproto.CanonicalMIMEHeaderKey(m.WireName())
	}
	return m.WireName()
}

func child(n **node) *node {
	if *n == nil {
		*n = &node{}
	}
	return *n
}

// route finds the operation of a REST request by method, path and query.
func (c *Call) route() error {
	c.query = parseQuery(c.request.Query)
	top := c.Service.routes()[c.request.Method]
	if top == nil {
		return c.noRoute()
	}
	path := strings.TrimPrefix(c.request.Path, "/")
	var labels []string
	at := top.find(path, &labels, func(n *node) bool { return c.choose(n.routes) != nil })
	if at == nil {
		return c.noRoute()
	}
	rt := c.choose(at.routes)
	c.Operation = rt.op
	for _, l := range labels {
		text, err := url.PathUnescape(l)
		if err != nil {
			return awserr.New(400, "InvalidURI", "Couldn't parse the specified URI.")
		}
		c.labels = append(c.labels, text)
	}
	c.labelNames = rt.labels
	return nil
}

// find walks down the tree, literals before labels before greedy labels, and
// returns the place whose routes the caller takes. labels get the escaped
// values.
func (n *node) find(path string, labels *[]string, take func(*node) bool) *node {
	if path == "" {
		if len(n.routes) > 0 && take(n) {
			return n
		}
		return nil
	}
	segment, rest, _ := strings.Cut(path, "/")
	if next := n.literal[segment]; next != nil {
		if found := next.find(rest, labels, take); found != nil {
			return found
		}
	}
	had := len(*labels)
	if n.label != nil && segment != "" {
		*labels = append(*labels, segment)
		if found := n.label.find(rest, labels, take); found != nil {
			return found
		}
		*labels = (*labels)[:had]
	}
	if n.greedy == nil {
		return nil
	}
	return n.findGreedy(path, labels, take)
}

// findGreedy gives a greedy label as much as what stands behind it leaves.
func (n *node) findGreedy(path string, labels *[]string, take func(*node) bool) *node {
	had := len(*labels)
	if len(n.greedy.literal) > 0 {
		for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
			*labels = append((*labels)[:had], path[:i])
			if found := n.greedy.find(path[i+1:], labels, take); found != nil {
				return found
			}
		}
	}
	*labels = append((*labels)[:had], path)
	if len(n.greedy.routes) > 0 && take(n.greedy) {
		return n.greedy
	}
	*labels = (*labels)[:had]
	return nil
}

// choose picks among the operations of one method and path: those whose literal
// query is there and whose required members are, the one that asks for most
// first. A client's hint (x-id) and then age decide among equals.
func (c *Call) choose(routes []*route) *route {
	var best *route
	bestScore := -1
	for _, rt := range routes {
		score, ok := c.score(rt)
		if ok && score > bestScore {
			best, bestScore = rt, score
		}
	}
	return best
}

func (c *Call) score(rt *route) (int, bool) {
	score := 0
	for _, q := range rt.query {
		value, ok := lookup(c.query, q.name)
		if !ok || q.value != "" && q.value != value {
			return 0, false
		}
		score += 40
	}
	for _, n := range rt.needs {
		ok := false
		if n.header {
			values := c.request.Header[n.name]
			ok = len(values) > 0 && values[0] != ""
		} else {
			_, ok = lookup(c.query, n.name)
		}
		if ok {
			score += 10
		} else {
			score -= 10
		}
	}
	if id, ok := lookup(c.query, "x-id"); ok && id == rt.op.Name {
		score += 4
	}
	if !rt.op.Deprecated {
		score += 2
	}
	return score + 1000, true
}

func lookup(query []pair, name string) (string, bool) {
	i := slices.IndexFunc(query, func(p pair) bool { return p.name == name })
	if i < 0 {
		return "", false
	}
	return query[i].value, true
}

// noRoute is the answer to a request that no operation has.
func (c *Call) noRoute() error {
	if c.Service.NoErrorWrapping {
		return awserr.New(405, "MethodNotAllowed", "The specified method is not allowed against this resource.").With("Method", c.request.Method)
	}
	return awserr.New(404, "UnknownOperationException", "")
}

// parseQuery takes a query apart. Unlike net/url it loses nothing: a semicolon
// is text, and a wrong escape stands for itself.
func parseQuery(raw string) []pair {
	if raw == "" {
		return nil
	}
	pairs := make([]pair, 0, strings.Count(raw, "&")+1)
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		pairs = append(pairs, pair{unescapeQuery(name), unescapeQuery(value)})
	}
	return pairs
}

func unescapeQuery(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s):
			u, err := url.PathUnescape(s[i : i+3])
			if err != nil {
				b = append(b, c)
				continue
			}
			b = append(b, u...)
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
