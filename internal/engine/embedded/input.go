//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
)

// input writes straight into a container's pipe or terminal. The supervisor has
// the pipe open too, so that it outlives this process.
type input struct {
	file *os.File
	d    *Driver
	key  inputKey
}

// inputKey is the input of one run of a container.
type inputKey struct {
	id  engine.ID
	run uint64
}

// Input opens the standard input. All writers of one run's input share it:
// closing one closes all.
func (d *Driver) Input(ctx context.Context, id engine.ID) (io.WriteCloser, error) {
	r, fds, err := d.call(ctx, &protocol.Request{Op: protocol.OpInput, ID: id})
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, fmt.Errorf("engine: input: %d descriptors", len(fds))
	}
	in := &input{os.NewFile(uintptr(fds[0]), "input of "+string(id)), d, inputKey{id, r.Run}}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inputs[in.key] = append(d.inputs[in.key], in)
	return in, nil
}

// Write waits while the program does not read.
func (in *input) Write(b []byte) (int, error) { return in.file.Write(b) }

// Close ends the program's input. A terminal goes on, and with it the other
// writers.
func (in *input) Close() error {
	if err := in.file.Close(); err != nil {
		return err // a second time
	}
	d := in.d
	d.mu.Lock()
	all := slices.DeleteFunc(d.inputs[in.key], func(o *input) bool { return o == in })
	if len(all) > 0 {
		d.inputs[in.key] = all
	} else {
		delete(d.inputs, in.key)
	}
	d.mu.Unlock()
	r, _, err := d.call(context.Background(), &protocol.Request{Op: protocol.OpEndInput, ID: in.key.id, Run: in.key.run})
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	if err == nil && r.Run == in.key.run { // it is a pipe, which ends when nobody has it open
		d.dropInputs(in.key)
	}
	return err
}

// dropInputs closes the writers of a run.
func (d *Driver) dropInputs(key inputKey) {
	d.mu.Lock()
	all := d.inputs[key]
	delete(d.inputs, key)
	d.mu.Unlock()
	for _, in := range all {
		_ = in.file.Close()
	}
}

// Resize sets the size of a terminal.
func (d *Driver) Resize(ctx context.Context, id engine.ID, size engine.Size) error {
	return d.do(ctx, protocol.Request{Op: protocol.OpResize, ID: id, Size: size})
}
