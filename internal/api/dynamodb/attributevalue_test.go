package dynamodb_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"skerry/internal/api/dynamodb"
	"skerry/internal/wire"
)

// read decodes a request that has the value in it.
func read(t *testing.T, value string) dynamodb.AttributeValue {
	t.Helper()
	body := `{"Item":{"a":` + value + `}}`
	c, err := wire.Identify(dynamodb.Schema, &wire.Request{
		Method: "POST", Path: "/", Header: http.Header{"X-Amz-Target": {"DynamoDB_20120810.PutItem"}}, Body: bytes.NewReader([]byte(body)), Length: int64(len(body)),
	})
	in := &dynamodb.PutItemInput{}
	if err == nil {
		err = c.Decode(in)
	}
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	return in.Item["a"]
}

// TestAttributeValue: every kind of value, none and several at once, come out of
// a value as the standard library reads them, and are written as they came.
func TestAttributeValue(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"S":""}`, `{"S":"é\n"}`, `{"N":"1e400"}`, `{"B":""}`, `{"B":"AAE="}`, `{"SS":[]}`, `{"SS":["a","b"]}`, `{"NS":["1"]}`, `{"BS":[]}`, `{"BS":["AA==",""]}`,
		`{"M":{}}`, `{"M":{"x":{"M":{"y":{"S":"z"}}}}}`, `{"L":[]}`, `{"L":[{"S":"a"},{"L":[{"BOOL":true}]},{},{"N":"3"},{"N":"4"},{"N":"5"}]}`,
		`{"NULL":true}`, `{"NULL":false}`, `{"BOOL":true}`, `{"BOOL":false}`,
		`{"S":"a","N":"1"}`, `{"S":"a","N":"1","B":"AA==","SS":["a"],"NS":["1"],"BS":["AA=="],"M":{"x":{"S":"y"}},"L":[{}],"NULL":true,"BOOL":false}`,
	} {
		v := read(t, text)
		var want dynamodb.AttributeValueMembers
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if got := v.Members(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s came in as %+v", text, got)
		}
		if packed := want.Pack(); !reflect.DeepEqual(packed, v) {
			t.Errorf("%s is %+v packed", text, packed)
		}
		out, err := json.Marshal(v)
		var again dynamodb.AttributeValue
		if err == nil {
			err = json.Unmarshal(out, &again)
		}
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%s became %s (%v)", text, out, err)
		}
		var a, b any
		if json.Unmarshal([]byte(text), &a) != nil || json.Unmarshal(out, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s became %s", text, out)
		}
	}
}

// TestAttributeValueOrder: the members of a client come in any order, the last of
// two equal ones wins, null is absent.
func TestAttributeValueOrder(t *testing.T) {
	for in, want := range map[string]string{
		`{"BOOL":true,"S":"a"}`:               `{"S":"a","BOOL":true}`,
		`{"S":"a","S":"b"}`:                   `{"S":"b"}`,
		`{"S":"a","N":"1","S":"b"}`:           `{"S":"b","N":"1"}`,
		`{"S":"a","M":null,"x":[{}]}`:         `{"S":"a"}`,
		`{"M":{"a":{"S":"b"}},"M":{}}`:        `{"M":{}}`,
		`{"M":{"a":{"S":"b"},"a":{"N":"1"}}}`: `{"M":{"a":{"N":"1"}}}`,
	} {
		v := read(t, in)
		if got := string(v.AppendJSON(nil)); got != want {
			t.Errorf("%s became %s", in, got)
		}
	}
}

// TestAttributeValueShown: the text of a fault has the members in it.
func TestAttributeValueShown(t *testing.T) {
	one := dynamodb.AttributeValueMembers{N: new("1")}.Pack()
	in := &dynamodb.PutItemInput{TableName: new("t"), Item: map[string]dynamodb.AttributeValue{
		"a": dynamodb.AttributeValueMembers{L: []dynamodb.AttributeValue{one}, SS: []string{"s"}}.Pack(), "b": {}, strings.Repeat("k", 1<<16): one,
	}}
	err := wire.Validate(dynamodb.Schema, dynamodb.Schema.Operation("PutItem"), in)
	if want := "{a=AttributeValue(sS=[s], l=[AttributeValue(n=1)]), b=AttributeValue(), kkk"; !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("%.200v", err)
	}
}
