package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"net/textproto"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// plan joins a shape of a table with the Go type that holds its values. Plans
// are made on first use and kept.
type plan struct {
	shape *Shape
	kind  Kind
	typ   reflect.Type // without the pointer of a member

	// Structures and unions.
	fields  []field // parallel to shape.Members
	body    []*field
	bound   []*field // members outside of the body
	payload *field   // the member that is the whole body
	stream  *field   // the event stream among the members
	byWire  map[string]*field
	byName  map[string]*field
	byQuery map[string]*field

	// Lists and maps.
	elem *field // element of a list, value of a map
	key  *field

	hook    bool        // the type has DecodeJSON and AppendJSON
	packed  bool        // the type is Packed, and the fields are those of the unpacked struct
	maps    JSONMapHook // nil if it has none
	index   uint16
	checked bool // the shape or one below it has constraints
}

// field is a member with all that a codec needs to know of it.
type field struct {
	*plan
	member *Member
	index  int
	offset uintptr // in the struct
	holder holder
	wire   string // JSON, XML, headers
	query  string // awsQuery
	ec2    string // ec2Query requests
	json   []byte // `"wire":`
	local  string // XML name without a prefix
	header string // the name in the form that http.Header keeps it
}

func (f *field) is(t Traits) bool { return f.member.Is&t != 0 }

func (f *field) streaming() bool {
	return f.kind == Blob && (f.member.Is|f.shape.Is)&Streaming != 0
}

// inMemory fails for a stream, which can only be a whole body.
func (f *field) inMemory() error {
	if f.kind == Blob && f.typ != typeBytes {
		return fmt.Errorf("%s is not the whole body", f.typ)
	}
	return nil
}

type planKey struct {
	shape uint16
	typ   reflect.Type
}

type planCache struct {
	done    sync.Map // planKey -> *plan
	inputs  sync.Map // *Operation -> *plan, of its own type
	outputs sync.Map
	mu      sync.Mutex
}

// inputPlan returns the plan for an operation's input, which is of the type.
func (s *Service) inputPlan(o *Operation, typ reflect.Type) (*plan, error) {
	return s.planAt(&s.plans.inputs, o, o.Input, typ)
}

// outputPlan returns the plan for an operation's output, which is of the type.
func (s *Service) outputPlan(o *Operation, typ reflect.Type) (*plan, error) {
	return s.planAt(&s.plans.outputs, o, o.Output, typ)
}

// planAt looks first where every request of the operation does: a key that is a
// pointer is found without an allocation.
func (s *Service) planAt(m *sync.Map, o *Operation, shape uint16, typ reflect.Type) (*plan, error) {
	if p, ok := m.Load(o); ok && p.(*plan).typ == typ {
		return p.(*plan), nil
	}
	p, err := s.planOf(shape, typ)
	if err == nil {
		m.Store(o, p)
	}
	return p, err
}

// planOf returns the plan for values of a Go type by a shape. It fails if the
// two do not match.
func (s *Service) planOf(shape uint16, typ reflect.Type) (*plan, error) {
	key := planKey{shape, typ}
	if p, ok := s.plans.done.Load(key); ok {
		return p.(*plan), nil
	}
	s.plans.mu.Lock()
	defer s.plans.mu.Unlock()
	b := planner{s: s, made: map[planKey]*plan{}}
	p, err := b.plan(shape, typ)
	if err != nil {
		return nil, fmt.Errorf("wire: %s: %w", s.ID, err)
	}
	markChecked(b.made)
	for k, v := range b.made {
		s.plans.done.LoadOrStore(k, v)
	}
	return p, nil
}

// Check makes the plans of all operations and errors, and so proves that the
// structs match the tables.
func (s *Service) Check() error {
	for i := range s.Operations {
		op := &s.Operations[i]
		if !op.Built() {
			continue
		}
		if _, err := s.planOf(op.Input, reflect.TypeOf(op.In).Elem()); err != nil {
			return fmt.Errorf("%s input: %w", op.Name, err)
		}
		if _, err := s.planOf(op.Output, reflect.TypeOf(op.Out).Elem()); err != nil {
			return fmt.Errorf("%s output: %w", op.Name, err)
		}
	}
	for i := range s.Shapes {
		if s.Shapes[i].Error == nil {
			continue
		}
		if _, err := s.planOf(uint16(i), reflect.TypeOf(s.Shapes[i].Type).Elem()); err != nil {
			return err
		}
	}
	return nil
}

// planner makes plans that may refer to one another.
type planner struct {
	s    *Service
	made map[planKey]*plan
}

var (
	typeTime   = reflect.TypeFor[time.Time]()
	typeBytes  = reflect.TypeFor[[]byte]()
	typeRaw    = reflect.TypeFor[json.RawMessage]()
	typeReader = reflect.TypeFor[io.Reader]()
	typeCloser = reflect.TypeFor[io.ReadCloser]()
	typeEvents = reflect.TypeFor[eventSource]()
)

// scalarKinds are the Go kinds of the simple shapes.
var scalarKinds = map[Kind]reflect.Kind{
	String: reflect.String, Integer: reflect.Int32, Long: reflect.Int64, Float: reflect.Float64, Double: reflect.Float64, Boolean: reflect.Bool,
}

func (b *planner) plan(index uint16, typ reflect.Type) (*plan, error) {
	key := planKey{index, typ}
	if p, ok := b.s.plans.done.Load(key); ok {
		return p.(*plan), nil
	}
	if p, ok := b.made[key]; ok {
		return p, nil
	}
	if int(index) >= len(b.s.Shapes) {
		return nil, fmt.Errorf("no shape %d", index)
	}
	shape := &b.s.Shapes[index]
	p := &plan{shape: shape, kind: shape.Kind, typ: typ, index: index}
	b.made[key] = p
	mismatch := fmt.Errorf("shape %s does not fit %s", shape.Name, typ)
	switch shape.Kind {
	case Structure, Union:
		if typ.Implements(typeEvents) || reflect.PointerTo(typ).Implements(typeEvents) {
			return p, b.events(p, index)
		}
		made := reflect.New(typ).Interface()
		_, p.hook = made.(JSONHook)
		p.maps, _ = made.(JSONMapHook)
		if packed, ok := made.(Packed); ok {
			p.packed = true
			typ = reflect.TypeOf(packed.Unpacked()).Elem()
		}
		// the codecs of other protocols know nothing of packed types
		onlyJSON := len(b.s.Protocols) == 1 && b.s.Protocols[0] == AWSJSON10
		if typ.Kind() != reflect.Struct || typ.NumField() < len(shape.Members) || p.packed && !onlyJSON {
			return nil, mismatch
		}
		return p, b.structure(p, typ)
	case List:
		if typ.Kind() != reflect.Slice || len(shape.Members) != 1 {
			return nil, mismatch
		}
		var err error
		if p.elem, err = b.field(&shape.Members[0], typ.Elem()); err != nil {
			return nil, err
		}
		return p, p.elem.inMemory()
	case Map:
		if typ.Kind() != reflect.Map || typ.Key().Kind() != reflect.String || len(shape.Members) != 2 {
			return nil, mismatch
		}
		var err error
		if p.key, err = b.field(&shape.Members[0], typ.Key()); err != nil {
			return nil, err
		}
		if p.elem, err = b.field(&shape.Members[1], typ.Elem()); err != nil {
			return nil, err
		}
		return p, p.elem.inMemory()
	case Timestamp:
		if typ != typeTime {
			return nil, mismatch
		}
	case Blob:
		if typ != typeBytes && typ != typeReader && typ != typeCloser {
			return nil, mismatch
		}
	case Document:
		if typ != typeRaw {
			return nil, mismatch
		}
	default:
		if typ.Kind() != scalarKinds[shape.Kind] {
			return nil, mismatch
		}
	}
	return p, nil
}

// events plans the union of an event stream.
func (b *planner) events(p *plan, index uint16) error {
	source := reflect.New(p.typ).Interface().(eventSource)
	var err error
	p.elem = &field{}
	p.elem.plan, err = b.plan(index, source.eventType())
	return err
}

// structure plans the fields of a struct.
func (b *planner) structure(p *plan, of reflect.Type) error {
	p.fields = make([]field, len(p.shape.Members))
	p.byWire = make(map[string]*field, len(p.fields))
	p.byQuery, p.byName = p.byWire, p.byWire
	for i := range p.shape.Members {
		m := &p.shape.Members[i]
		typ := of.Field(i)
		if !strings.EqualFold(typ.Name, strings.TrimLeft(m.Name, "_")) {
			return fmt.Errorf("member %d of %s is %s, field %s", i, p.shape.Name, m.Name, typ.Name)
		}
		t := typ.Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		f, err := b.field(m, t)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", p.shape.Name, m.Name, err)
		}
		f.index, f.offset, f.holder = i, typ.Offset, holderOf(typ.Type)
		p.fields[i] = *f
	}
	for i := range p.fields {
		b.place(p, &p.fields[i])
	}
	for _, f := range p.body {
		if err := f.inMemory(); err != nil {
			return fmt.Errorf("%s.%s: %w", p.shape.Name, f.member.Name, err)
		}
	}
	b.queryNames(p)
	return nil
}

// place sorts a field into the lists of its structure.
func (b *planner) place(p *plan, f *field) {
	rest := b.s.Speaks(RESTJSON1) || b.s.Speaks(RESTXML)
	switch {
	case f.shape.Is&EventStreamUnion != 0:
		p.stream = f
	case !rest:
		p.body = append(p.body, f)
		p.byWire[f.local] = f
	case p.shape.Payload == f.member.Name:
		p.payload = f
	case f.member.In != InBody:
		p.bound = append(p.bound, f)
	default:
		p.body = append(p.body, f)
		p.byWire[f.local] = f
	}
}

// queryNames makes the indexes by awsQuery name and by the model's name, where
// they differ from the one by wire name.
func (b *planner) queryNames(p *plan) {
	for _, f := range p.body {
		if f.query != f.local {
			p.byQuery = map[string]*field{}
		}
		if f.member.Name != f.local {
			p.byName = map[string]*field{}
		}
	}
	for _, f := range p.body {
		p.byQuery[f.query] = f
		p.byName[f.member.Name] = f
	}
}

func (b *planner) field(m *Member, typ reflect.Type) (*field, error) {
	p, err := b.plan(m.Shape, typ)
	if err != nil {
		return nil, err
	}
	f := &field{plan: p, member: m, wire: m.WireName()}
	f.local = f.wire
	f.header = textproto.CanonicalMIMEHeaderKey(f.wire)
	if m.Is&Attribute != 0 {
		_, local, ok := strings.Cut(f.wire, ":")
		if ok {
			f.local = local
		}
	}
	f.query, f.ec2 = f.wire, f.wire
	if m.Wire != "" {
		f.ec2 = strings.ToUpper(m.Wire[:1]) + m.Wire[1:]
	}
	if m.Query != "" {
		f.query, f.ec2 = m.Query, m.Query
	}
	f.json = append(strconv.AppendQuote(nil, f.wire), ':')
	return f, nil
}
