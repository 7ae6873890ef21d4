package cloud

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"skerry/internal/engine/docker"
)

// DefaultListen is where existing wrappers and test libraries look for a local
// cloud.
const DefaultListen = "127.0.0.1:4566"

// The values that a Config has unless it says otherwise.
const (
	DefaultAccount    = "000000000000"
	DefaultRegion     = "us-east-1"
	DefaultDurability = "fsync"
)

// RootKey is an access key of the account's root user.
type RootKey struct{ ID, Secret string }

// Config is what `skerry up` can be told.
type Config struct {
	Listen     string    // host:port
	Data       string    // folder of all state
	Account    string    // twelve digits
	Region     string    // region of requests that name none
	RootKeys   []RootKey // besides the one of first start, or test/test on loopback
	Durability string    // fsync, or relaxed for test suites that can lose everything
	// Runtimes are the interpreters of functions by runtime ("python3.12"), in place
	// of those that are found on the machine.
	Runtimes map[string]string
	// NodeModules is a folder with the AWS SDK for JavaScript, for functions.
	NodeModules string
	// Mirrors are asked for images before a registry, by its host ("docker.io").
	Mirrors map[string][]string
	// Vulnerabilities is a folder with files in OSV's format, in which the packages
	// of images are looked up.
	Vulnerabilities string
	// Engine is what runs functions and containers: EngineEmbedded (or empty),
	// EngineDocker, or "docker=" and the path of Docker's socket.
	Engine string
	// DockerSocket is where the Docker Engine API is served: empty is docker.sock
	// in the data folder, NoSocket nowhere.
	DockerSocket string
	Version      string // of the binary, for status and logs
	Log          *slog.Logger
}

// The engines, and DockerSocket for none.
const (
	EngineEmbedded = "embedded"
	EngineDocker   = "docker"
	NoSocket       = "none"
)

// dockerPath is the socket of the Docker daemon that runs the containers; empty
// with the embedded engine.
func (c Config) dockerPath() string {
	kind, path, _ := strings.Cut(c.Engine, "=")
	switch {
	case kind != EngineDocker:
		return ""
	case path == "":
		return docker.DefaultSocket
	}
	return path
}

// maxSocket is the longest path that a socket can have, in bytes (unix(7)).
const maxSocket = 107

// socket is where the Docker Engine API is served; empty is nowhere. Unless a
// place was given it is served only where containers can run, and the path is
// not too long for a socket.
func (c Config) socket() string {
	switch c.DockerSocket {
	case NoSocket:
		return ""
	case "":
		path, err := filepath.Abs(filepath.Join(c.Data, "docker.sock"))
		if err != nil || len(path) > maxSocket || os.Geteuid() != 0 {
			return ""
		}
		return path
	}
	if path, err := filepath.Abs(c.DockerSocket); err == nil {
		return path
	}
	return c.DockerSocket
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	keyForm     = regexp.MustCompile(`^[A-Za-z0-9_]{3,128}$`)
)

// DefaultData returns the folder of state for the current user.
func DefaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/skerry"
	}
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "skerry")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "skerry")
	}
	return "skerry-data"
}

// ParseRootKey reads the form ID:SECRET.
func ParseRootKey(s string) (RootKey, error) {
	id, secret, ok := strings.Cut(s, ":")
	if !ok || !keyForm.MatchString(id) || secret == "" {
		return RootKey{}, errors.New("a root key has the form ID:SECRET, the ID of 3 to 128 letters, digits and underscores")
	}
	return RootKey{id, secret}, nil
}

// Check tells what is wrong with a Config, in a sentence for its user.
func (c Config) Check() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("--listen %q is not HOST:PORT", c.Listen)
	}
	if !accountForm.MatchString(c.Account) {
		return fmt.Errorf("--account %q is not twelve digits", c.Account)
	}
	if !regionForm.MatchString(c.Region) {
		return fmt.Errorf("--region %q has not the form of a region, such as us-east-1", c.Region)
	}
	if c.Data == "" {
		return errors.New("--data names no folder")
	}
	if kind, path, named := strings.Cut(c.Engine, "="); c.Engine != "" && c.Engine != EngineEmbedded && (kind != EngineDocker || named && path == "") {
		return fmt.Errorf("--engine %q is none of embedded, docker, docker=SOCKET", c.Engine)
	}
	if path := c.socket(); len(path) > maxSocket {
		return fmt.Errorf("--docker-socket %s is longer than the %d bytes that a socket's path can have", path, maxSocket)
	}
	if c.Durability != "fsync" && c.Durability != "relaxed" {
		return fmt.Errorf("--durability %q is neither fsync nor relaxed", c.Durability)
	}
	return nil
}

// Loopback tells whether only this machine can reach the address.
func (c Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
