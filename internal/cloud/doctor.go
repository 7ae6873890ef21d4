package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded"
	"skerry/internal/store"
)

// Check is one thing that this machine can or can't do.
type Check struct {
	What string `json:"what"` // what was looked for
	OK   bool   `json:"ok"`
	Why  string `json:"why"`            // what was found
	Mend string `json:"mend,omitempty"` // the command that mends it; empty if all is well
}

// Doctor looks at the machine and at the data folder.
func Doctor(ctx context.Context, data string) []Check {
	checks := []Check{checkData(data), checkSpace(data)}
	eng, err := embedded.Open(embedded.Config{Data: filepath.Join(data, "engine")})
	if err != nil {
		checks = append(checks, Check{What: "functions and containers", Why: err.Error(), Mend: "run Skerry on Linux, as root"})
	} else {
		defer eng.Close()
		checks = append(checks, checkEngine(ctx, eng)...)
	}
	return append(checks,
		checkNames(),
		checkProgram("Python functions", "/usr/bin/python3", "apt-get install -y python3"),
		checkPython("boto3 in Python functions", "boto3", "apt-get install -y python3-boto3"),
		checkPython("Pillow in Python functions (the thumbnail demo)", "PIL", "apt-get install -y python3-pil"),
		checkProgram("Node.js functions", "node", "install Node.js 20 or later so that `node` is on the PATH"),
		checkProgram("the AWS CLI", "aws", "apt-get install -y awscli"),
	)
}

// checkData opens the store, unless a running server has it, and says which file
// is damaged.
func checkData(data string) Check {
	c := Check{What: "state in " + data}
	_, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		c.OK, c.Why = true, "not there yet; the first start makes it"
		return c
	}
	if err != nil {
		c.Why, c.Mend = err.Error(), "give this user the folder, or name another with --data"
		return c
	}
	db, err := store.Open(storeFolder(data), store.Options{})
	switch {
	case err == nil:
		c.OK, c.Why = true, "opens and reads without a fault"
		if err := errors.Join(db.Verify(context.Background()), db.Close()); err != nil {
			c.OK, c.Why = false, err.Error()
		}
	case errors.Is(err, store.ErrLocked):
		c.OK, c.Why = true, "a server has it open"
	case errors.Is(err, store.ErrDamaged):
		c.Why = err.Error()
		c.Mend = fmt.Sprintf("put that file back from a backup of %s; or begin anew: mv %s %s.damaged", data, data, data)
	default:
		c.Why, c.Mend = err.Error(), "see what it says; skerry up says the same"
	}
	return c
}

// scarce is the free space below which a server would soon refuse writes.
const scarce = 512 << 20

func checkSpace(data string) Check {
	c := Check{What: "free space"}
	var st syscall.Statfs_t
	dir := data
	for syscall.Statfs(dir, &st) != nil {
		i := strings.LastIndexByte(dir, '/')
		if i <= 0 {
			dir = "/"
			if err := syscall.Statfs(dir, &st); err != nil {
				c.Why = err.Error()
				return c
			}
			break
		}
		dir = dir[:i]
	}
	free := int64(st.Bavail) * st.Bsize
	c.OK, c.Why = free >= scarce, fmt.Sprintf("%d MiB at %s", free>>20, dir)
	if !c.OK {
		c.Mend = "make room, or name another folder with --data"
	}
	return c
}

func checkEngine(ctx context.Context, eng engine.Engine) []Check {
	c := Check{What: "functions and containers"}
	info, err := eng.Info(ctx)
	if err != nil {
		c.Why, c.Mend = err.Error(), "run as root on Linux 5.12 or later"
		return []Check{c}
	}
	c.OK, c.Why = info.Runs, fmt.Sprintf("driver %s, control groups version %d", info.Driver, info.Cgroups)
	if !c.OK {
		c.Why, c.Mend = "cannot run here", "run as root: sudo skerry up"
	}
	return append([]Check{c}, lacking(info)...)
}

// lacking lists what the engine can't do on this machine.
func lacking(info engine.Capabilities) []Check {
	checks := make([]Check, len(info.Missing))
	for i, m := range info.Missing {
		checks[i] = Check{What: m.What, Why: m.Why, Mend: m.Mend}
	}
	return checks
}

func checkProgram(what, name, mend string) Check {
	c := Check{What: what}
	path, err := exec.LookPath(name)
	if err != nil {
		c.Why, c.Mend = name+" is not there", mend
		return c
	}
	c.OK, c.Why = true, path
	return c
}

func checkPython(what, module, mend string) Check {
	c := Check{What: what}
	if err := exec.Command("/usr/bin/python3", "-c", "import "+module).Run(); err != nil {
		c.Why, c.Mend = "the system's Python has no module "+module, mend
		return c
	}
	c.OK, c.Why = true, "there"
	return c
}
