package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// model is one service's file in the form that the README of the models
// describes.
type model struct {
	ID                 string             `json:"id"`
	Botocore           string             `json:"botocore"`
	SDKID              string             `json:"sdkId"`
	Title              string             `json:"title"`
	APIVersion         string             `json:"apiVersion"`
	Protocols          []string           `json:"protocols"`
	QueryCompatible    bool               `json:"queryCompatible"`
	TargetPrefix       string             `json:"targetPrefix"`
	SigningName        string             `json:"signingName"`
	EndpointPrefix     string             `json:"endpointPrefix"`
	GlobalEndpoint     string             `json:"globalEndpoint"`
	XMLNamespace       string             `json:"xmlNamespace"`
	NoErrorWrapping    bool               `json:"noErrorWrapping"`
	ErrorNamespace     string             `json:"errorNamespace"`
	ARNNamespace       string             `json:"arnNamespace"`
	CloudTrailSource   string             `json:"cloudTrailSource"`
	CloudFormationName string             `json:"cloudFormationName"`
	ModelDate          string             `json:"modelDate"`
	Operations         ordered[operation] `json:"operations"`
	Shapes             ordered[shape]     `json:"shapes"`
}

type operation struct {
	HTTP          []string  `json:"http"`
	Status        int       `json:"status"`
	Input         string    `json:"input"`
	Output        string    `json:"output"`
	Errors        []string  `json:"errors"`
	InputRoot     string    `json:"inputRoot"`
	InputXMLNS    string    `json:"inputXmlns"`
	OutputRoot    string    `json:"outputRoot"`
	ResultWrapper string    `json:"resultWrapper"`
	Unwrapped     bool      `json:"unwrapped"`
	Auth          string    `json:"auth"`
	Unsigned      bool      `json:"unsignedPayload"`
	HostPrefix    string    `json:"hostPrefix"`
	Checksum      *checksum `json:"checksum"`
	Compression   any       `json:"compression"`
	Idempotent    bool      `json:"idempotent"`
	ReadOnly      bool      `json:"readonly"`
	Deprecated    bool      `json:"deprecated"`
}

type checksum struct {
	Required         bool     `json:"required"`
	AlgorithmMember  string   `json:"algorithmMember"`
	ValidationMember string   `json:"validationMember"`
	Response         []string `json:"response"`
}

type shape struct {
	Type        string       `json:"type"`
	Members     ordered[ref] `json:"members"`
	Payload     string       `json:"payload"`
	EventStream bool         `json:"eventStream"`
	Error       *fault       `json:"error"`
	Member      *ref         `json:"member"`
	Key         *ref         `json:"key"`
	Value       *ref         `json:"value"`
	Enum        []string     `json:"enum"`
	Min         *json.Number `json:"min"`
	Max         *json.Number `json:"max"`
	Pattern     string       `json:"pattern"`
	Timestamp   string       `json:"timestamp"`
	Sensitive   bool         `json:"sensitive"`
	Streaming   bool         `json:"streaming"`
	Open        bool         `json:"-"` // other values than the enumeration's are fine
}

type fault struct {
	Fault  string `json:"fault"`
	Status int    `json:"status"`
	Code   string `json:"code"`
}

// ref is a use of a shape. In the file it is an object, or just the shape's
// name.
type ref struct {
	Shape     string `json:"shape"`
	In        string `json:"in"`
	Name      string `json:"name"`
	QName     string `json:"qname"`
	Flat      bool   `json:"flat"`
	XMLNS     *xmlns `json:"xmlns"`
	Attr      bool   `json:"attr"`
	Required  bool   `json:"required"`
	Token     bool   `json:"idempotency"`
	HostLabel bool   `json:"hostLabel"`
	Streaming bool   `json:"streaming"`
	JSONValue bool   `json:"jsonValue"`
	Payload   bool   `json:"eventPayload"`
	Header    bool   `json:"eventHeader"`
	Timestamp string `json:"timestamp"`
	Depr      bool   `json:"deprecated"`
}

type xmlns struct {
	URI    string `json:"uri"`
	Prefix string `json:"prefix"`
}

func (r *ref) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &r.Shape)
	}
	type plain ref
	return json.Unmarshal(b, (*plain)(r))
}

// ordered is a JSON object whose order matters.
type ordered[T any] struct {
	names []string
	by    map[string]T
}

func (o *ordered[T]) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("an object is wanted: %v", err)
	}
	o.by = map[string]T{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		var v T
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		o.names = append(o.names, name)
		o.by[name] = v
	}
	return nil
}

func readModel(folder, id string) (*model, error) {
	b, err := os.ReadFile(filepath.Join(folder, id+".json"))
	if err != nil {
		return nil, err
	}
	m := &model{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	return m, nil
}
