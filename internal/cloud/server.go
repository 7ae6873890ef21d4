package cloud

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// Ready is what a started cloud tells about itself, for the banner.
type Ready struct {
	Version     string
	Endpoint    string // http://host:port
	Data        string
	Took        time.Duration // from the call of Run to the open socket
	NewRootKey  RootKey       // set when this start made one
	RootKeyFile string
	Docker      string // the socket for docker clients; empty if there is none
	ShellLine   string // what to paste into a shell
	Off         []Check
}

// Server is the note that a running cloud leaves in its data folder, so that
// the other commands find it. It holds no secret.
type Server struct {
	Endpoint string `json:"endpoint"`
	PID      int    `json:"pid"`
	Account  string `json:"account"`
	Region   string `json:"region"`
	Loopback bool   `json:"loopback"`
	Bundle   string `json:"bundle"` // certificate authorities: the system's and Skerry's own
	Docker   string `json:"docker"` // the socket for docker clients; empty if there is none
}

const serverFile = "server.json"

// writeServer leaves the note.
func writeServer(data string, s Server) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(data, serverFile+".new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(data, serverFile))
}

// FindServer reads the note of the cloud that runs, or last ran, on a data
// folder.
func FindServer(data string) (Server, error) {
	var s Server
	b, err := os.ReadFile(filepath.Join(data, serverFile))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}
