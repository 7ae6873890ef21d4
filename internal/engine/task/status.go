package task

import (
	"net/netip"
	"time"

	"skerry/internal/engine"
)

// State is where a task is in its life.
type State string

// The states, in their order: "Amazon ECS task lifecycle".
const (
	Provisioning   State = "PROVISIONING"   // volumes and variables are made ready
	Pending        State = "PENDING"        // images are fetched, containers start
	Activating     State = "ACTIVATING"     // all have started; the owner registers the task
	Running        State = "RUNNING"        //
	Deactivating   State = "DEACTIVATING"   // the owner takes the task off where it is registered
	Stopping       State = "STOPPING"       // containers are told to end, in the reverse order
	Deprovisioning State = "DEPROVISIONING" // all have ended; logs are sent, containers and volumes removed
	Stopped        State = "STOPPED"
)

// The stop codes that the runner gives; the owner's come with Runner.Stop.
const (
	FailedToStart   = "TaskFailedToStart"
	EssentialExited = "EssentialContainerExited"
	UserInitiated   = "UserInitiated"
)

// essentialReason is the agent's.
const essentialReason = "Essential container in task exited"

// ContainerState is where a container of a task is in its life.
type ContainerState string

// The states of a container. ECS shows the first three as PENDING.
const (
	ContainerPending ContainerState = "PENDING" // nothing is there yet
	ContainerPulled  ContainerState = "PULLED"  // its image is
	ContainerCreated ContainerState = "CREATED" // the container is
	ContainerRunning ContainerState = "RUNNING"
	ContainerStopped ContainerState = "STOPPED" // for good
)

// Health is what health checks say.
type Health string

// The healths.
const (
	Unknown   Health = "UNKNOWN"
	Healthy   Health = "HEALTHY"
	Unhealthy Health = "UNHEALTHY"
)

// Status is what has become of a task.
type Status struct {
	Task
	State   State
	Desired State // Running or Stopped
	Health  Health
	Address netip.Addr // of an AWSVPC task
	// Version counts the changes.
	Version int64

	Created, PullStarted, PullStopped, Started time.Time
	// ExecutionStopped is when an essential container had ended.
	Stopping, ExecutionStopped, Stopped time.Time

	StopCode, StoppedReason string
	// Status of the containers, in the order of Task.Containers.
	Status []ContainerStatus
}

// ContainerStatus is what has become of a container.
type ContainerStatus struct {
	Name        string
	ID          engine.ID // in the engine
	State       ContainerState
	Image       string // the image's id
	ImageDigest string
	ExitCode    *int // nil: it has not ended, was never started, or nobody knows
	Reason      string
	OOM         bool
	Created     time.Time
	Started     time.Time // the last time
	Finished    time.Time
	Restarts    int
	Address     netip.Addr
	Ports       []engine.Port // published
	Health      Health
	HealthSince time.Time
	// HealthOutput is the beginning of the last check's output, HealthCode its
	// exit code.
	HealthOutput string
	HealthCode   int
	// LogStream is where the output goes, with awslogs.
	LogStream string
}

// taskHealth is the health of a task by that of its containers: "HealthCheck" in
// the API Reference. Only essential containers count; one without a health check
// is unknown.
func taskHealth(t *Task, of func(name string) Health) Health {
	health := Healthy
	for i := range t.Containers {
		c := &t.Containers[i]
		if !c.Essential {
			continue
		}
		switch h := of(c.Name); {
		case h == Unhealthy:
			return Unhealthy
		case h != Healthy:
			health = Unknown
		}
	}
	return health
}
