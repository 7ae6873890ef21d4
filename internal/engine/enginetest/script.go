package enginetest

import (
	"context"
	"fmt"
	"io"
	"syscall"
)

// The suite's programs: shell scripts for a real engine, Go functions for the
// Fake. Each is "/bin/sh -c script".
const (
	scriptTrue = `exit 0`
	scriptCode = `echo out; echo err >&2; exit 3`
	scriptWait = `echo ready; trap 'exit 7' TERM; while :; do sleep 1000 & wait; done`
	scriptTick = `i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.02; done`
	scriptCat  = `cat; exit 5`
	scriptEnv  = `printf %s "$GREETING"`
	// scriptTerminal needs a terminal. It says its size when that changes, and
	// at a line; the second line ends it.
	scriptTerminal = `test -t 0 && test -t 1 && test -t 2 && echo terminal; trap 'echo size $(stty size)' WINCH
hear() { line=; until test "$line"; do read line; done; }; hear; echo heard $line $(stty size); hear; exit 6`
	// scriptOrphan leaves a process behind, and says once it is gone.
	scriptOrphan = `echo process $$; p=$(sh -c 'sleep 0.02 >/dev/null & echo $!'); while test -e /proc/$p; do sleep 0.01; done; echo reaped; exec sleep 1000`
	scriptSilent = `echo silent; exec sleep 1000`
	scriptLeave  = `sleep 1000 & echo left; exit 4`
	scriptHello  = `exec python3 -c 'import socket; s=socket.create_connection(("127.0.0.1",9001)); s.sendall(b"hello"); print(s.recv(9).decode())'`
)

var scripts = map[string]Program{
	scriptTrue: func(context.Context, *Process) int { return 0 },
	scriptCode: func(_ context.Context, p *Process) int {
		fmt.Fprintln(p.Stdout, "out")
		fmt.Fprintln(p.Stderr, "err")
		return 3
	},
	scriptWait: func(ctx context.Context, p *Process) int {
		fmt.Fprintln(p.Stdout, "ready")
		for {
			select {
			case sig := <-p.Signals:
				if sig == syscall.SIGTERM {
					return 7
				}
			case <-ctx.Done():
				return 0
			}
		}
	},
	scriptTick: func(ctx context.Context, p *Process) int {
		for i := 1; ; i++ {
			if _, err := fmt.Fprintln(p.Stdout, "tick", i); err != nil || pause(ctx) != nil {
				return 1
			}
		}
	},
	scriptSilent: func(ctx context.Context, p *Process) int {
		fmt.Fprintln(p.Stdout, "silent")
		<-ctx.Done()
		return 0
	},
	scriptCat: func(_ context.Context, p *Process) int {
		_, _ = io.Copy(p.Stdout, p.Stdin)
		return 5
	},
	scriptLeave: func(_ context.Context, p *Process) int {
		fmt.Fprintln(p.Stdout, "left")
		return 4
	},
	scriptEnv: func(_ context.Context, p *Process) int {
		for _, e := range p.Env {
			if len(e) > 9 && e[:9] == "GREETING=" {
				fmt.Fprint(p.Stdout, e[9:])
			}
		}
		return 0
	},
	scriptHello: func(ctx context.Context, p *Process) int {
		c, err := p.Dial(ctx, "tcp", "127.0.0.1:9001")
		if err != nil {
			return 1
		}
		defer c.Close()
		fmt.Fprint(c, "hello")
		b := make([]byte, 9)
		n, _ := c.Read(b)
		fmt.Fprintln(p.Stdout, string(b[:n]))
		return 0
	},
}

// shell is the Fake's /bin/sh, which knows the suite's scripts.
func shell(ctx context.Context, p *Process) int {
	if len(p.Args) == 3 && scripts[p.Args[2]] != nil {
		return scripts[p.Args[2]](ctx, p)
	}
	fmt.Fprintln(p.Stderr, "enginetest: the Fake has no such script")
	return 127
}
