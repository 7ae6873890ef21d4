package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// dockerClient speaks the Docker Engine API over a socket ("Docker Engine API
// reference").
type dockerClient struct{ http http.Client }

func newDockerClient(socket string) *dockerClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &dockerClient{http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// send sends a request and returns the answer, if it is a good one.
func (d *dockerClient) send(ctx context.Context, method, path, kind string, header http.Header, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.43"+path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.Header.Set("Content-Type", kind)
	}
	answer, err := d.http.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 300 || answer.StatusCode == http.StatusNotModified {
		return answer, nil
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	var fault struct{ Message string }
	if json.Unmarshal(b, &fault) != nil || fault.Message == "" {
		fault.Message = strings.TrimSpace(string(b))
	}
	return nil, errors.Join(fmt.Errorf("docker %s %s: %s: %s", method, path, answer.Status, fault.Message), err)
}

// do sends in as JSON, unless it is nil, and reads the answer into out, unless
// that is nil.
func (d *dockerClient) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	answer, err := d.send(ctx, method, path, "application/json", nil, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

// stream posts what is answered by a stream of messages, and returns the fault
// that is among them.
func (d *dockerClient) stream(ctx context.Context, path string, header http.Header, archive io.Reader) error {
	answer, err := d.send(ctx, http.MethodPost, path, "application/x-tar", header, archive)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	for messages := json.NewDecoder(answer.Body); ; {
		var m struct{ Error string }
		if err := messages.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != "" {
			return fmt.Errorf("docker %s: %s", path, m.Error)
		}
	}
}

// logs returns what a container without a terminal wrote so far.
func (d *dockerClient) logs(ctx context.Context, container string) (string, error) {
	answer, err := d.send(ctx, http.MethodGet, "/containers/"+container+"/logs?stdout=1&stderr=1", "", nil, nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var all strings.Builder
	for {
		var head [8]byte // the stream, three zeros, the length
		if _, err := io.ReadFull(answer.Body, head[:]); errors.Is(err, io.EOF) {
			return all.String(), nil
		} else if err != nil {
			return all.String(), err
		}
		if _, err := io.CopyN(&all, answer.Body, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			return all.String(), err
		}
	}
}
