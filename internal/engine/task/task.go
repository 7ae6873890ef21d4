package task

import (
	"io/fs"
	"net/netip"
	"time"

	"skerry/internal/engine"
)

// Task says what is to run: containers that share volumes and, in most network
// modes, one sandbox, and that live and die together. It does not change after
// Runner.Run.
type Task struct {
	ID      engine.ID // 1 to 48 characters
	Owner   string    // whose it is among the services, such as "ecs"; it chooses nothing here
	Account string
	Region  string
	Labels  map[string]string // the owner's

	// What the task's metadata says of it, and nothing else depends on.
	ARN, Cluster, Family, Revision, Service, LaunchType, Zone string

	Network Network
	Volumes []Volume
	// CPU is in processors and Memory in bytes; they bound the sum of what the
	// containers use. Zero is no limit.
	CPU    float64
	Memory int64
	// TaskRole is the ARN of the role whose credentials the containers get,
	// ExecutionRole of the one that pulls images, reads secrets and writes
	// logs. Empty is none. Config's functions make of them what they are.
	TaskRole, ExecutionRole string
	Pull                    PullBehavior
	// Registered says that the owner registers the task somewhere, at a load
	// balancer for instance: it stays ACTIVATING and DEACTIVATING until
	// Runner.Proceed.
	Registered bool
	Containers []Container // in the order in which they start, dependencies apart
}

// PullBehavior says when an image is fetched although it is here.
type PullBehavior string

// The behaviours, as of ECS_IMAGE_PULL_BEHAVIOR.
const (
	PullDefault PullBehavior = ""              // fetch; where that fails, take what is here
	PullAlways  PullBehavior = "always"        // fetch; where that fails, the task fails
	PullOnce    PullBehavior = "once"          // fetch what is not here
	PullCached  PullBehavior = "prefer-cached" // the same here: images are removed only when they are told to be
)

// NetworkMode is a task's network.
type NetworkMode string

// The modes.
const (
	// AWSVPC: the containers share one sandbox with an address of its own.
	AWSVPC NetworkMode = "awsvpc"
	// Bridge: each container has a sandbox and an address on a network of the
	// task, and publishes ports on the machine.
	Bridge NetworkMode = "bridge"
	// Host: the machine's own network.
	Host NetworkMode = "host"
	// None: each container has nothing but loopback.
	None NetworkMode = "none"
)

// Network of a task.
type Network struct {
	Mode NetworkMode
	// Name, Address and Groups are of the network that the sandbox is on, in
	// AWSVPC. Without a name, the sandbox has the outside world and no
	// neighbours.
	Name    string
	Address netip.Addr
	Groups  []string
	// Internal leaves the outside world away.
	Internal bool
	// Publish opens the ports of an AWSVPC task on the machine as well, which
	// AWS does not.
	Publish bool
	// MAC and Subnet are what the metadata says of the address.
	MAC    string
	Subnet netip.Prefix
}

// Volume is a folder that containers of the task mount by its name. With
// neither Host nor Docker it is scratch: empty at the start, and deleted with
// the task.
type Volume struct {
	Name   string
	Host   string // an absolute path on the machine
	Docker *DockerVolume
	// Size ends what may be written, in bytes; zero is no limit. Scratch only.
	Size int64
}

// DockerVolume is a volume with a name of its own.
type DockerVolume struct {
	// Shared volumes outlast the task and are the account's: tasks that name
	// the same volume have the same files. Others are the task's.
	Shared bool
	// Create makes a shared volume that is not there yet; otherwise the task
	// fails.
	Create bool
	Driver string // empty or "local"
	Labels map[string]string
}

// Container is one of a task's containers.
type Container struct {
	Name      string // 1 to 255 of a-z, A-Z, 0-9, '-' and '_'
	Image     string // as engine.Images has it
	Essential bool   // when it ends, the task does

	EntryPoint, Command []string // nil: the image's
	Environment         []Variable
	EnvironmentFiles    []string // names that Config.File knows: ARNs of S3 objects
	Secrets             []Secret
	Dir                 string // working directory; empty: the image's
	User                string // as engine.User.Name; empty: the image's
	Hostname            string // not in AWSVPC
	Labels              map[string]string

	CPU               int64 // CPU shares: 1024 is a processor's worth
	Memory            int64 // bytes: beyond it the container is killed
	MemoryReservation int64 // bytes: the soft limit
	Swap              int64 // bytes of swap beside Memory; zero is none
	GPU               int   // not supported: anything but zero is refused

	Ports      []Port
	Links      []string // "name" or "name:alias"; Bridge only
	ExtraHosts []engine.Host
	DNS        engine.DNS // not in AWSVPC

	Ulimits                           []engine.Rlimit
	SystemControls                    map[string]string
	AddCapabilities, DropCapabilities []string
	Devices                           []engine.Device
	Init                              bool
	ShmSize                           int64 // bytes
	Tmpfs                             []Tmpfs
	Privileged                        bool
	NoNewPrivileges                   bool
	ReadonlyRoot                      bool
	TTY                               bool
	Interactive                       bool

	Mounts      []MountPoint
	VolumesFrom []VolumesFrom

	DependsOn    []Dependency
	StartTimeout time.Duration // for others to wait for it; zero is for ever
	StopTimeout  time.Duration // from the stop signal to SIGKILL; zero is DefaultStopTimeout
	Restart      *RestartPolicy
	Health       *HealthCheck
	Log          Log

	// RepositoryCredentials names a secret that Config.Auth reads.
	RepositoryCredentials string
}

// DefaultStopTimeout is Container.StopTimeout when nothing is said.
const DefaultStopTimeout = 30 * time.Second

// Variable is a variable of a container's environment.
type Variable struct{ Name, Value string }

// Secret is a variable whose value Config.Secret knows.
type Secret struct{ Name, ValueFrom string }

// Port is a port of a container. In Bridge it is published on the machine, at
// Host or, where that is zero, at a port that is free.
type Port struct {
	Container, Host uint16
	Protocol        string // "tcp" or "udp"; empty is tcp
	Name            string
}

// Tmpfs is an empty file system in memory.
type Tmpfs struct {
	Path     string
	Size     int64 // bytes
	Mode     fs.FileMode
	NoExec   bool
	ReadOnly bool
}

// MountPoint is where a container has a volume.
type MountPoint struct {
	Volume   string
	Path     string
	ReadOnly bool
}

// VolumesFrom gives a container all that another one mounts.
type VolumesFrom struct {
	Container string
	ReadOnly  bool
}

// Condition is what a Dependency waits for.
type Condition string

// The conditions.
const (
	OnStart    Condition = "START"    // the other has been started
	OnComplete Condition = "COMPLETE" // it has ended
	OnSuccess  Condition = "SUCCESS"  // it has ended with 0
	OnHealthy  Condition = "HEALTHY"  // its health check has passed
	onCreate   Condition = "CREATE"   // it has been created: what VolumesFrom needs
)

// Dependency keeps a container from being made before another one is as it says,
// and the other from being stopped before this one has ended.
type Dependency struct {
	Container string
	Condition Condition
}

// RestartPolicy starts a container again that has ended by itself, with the
// same files, unless its code is ignored or it ran for less than Period.
type RestartPolicy struct {
	Ignored []int
	Period  time.Duration // zero is DefaultRestartPeriod
}

// DefaultRestartPeriod is RestartPolicy.Period when nothing is said.
const DefaultRestartPeriod = 300 * time.Second

// HealthCheck is a program that is run in the container again and again. Zero
// fields take ECS's defaults.
type HealthCheck struct {
	Command  []string      // {"CMD", program, arguments...} or {"CMD-SHELL", text}
	Interval time.Duration // between two checks; 30 s
	Timeout  time.Duration // of a check; 5 s
	Retries  int           // failures in a row that make the container unhealthy; 3
	Start    time.Duration // how long failures do not count, until the first success
}

// Log says where a container's output goes.
type Log struct {
	Driver  string // "awslogs", "json-file", or empty: kept by the engine, and not sent anywhere
	Options map[string]string
}
