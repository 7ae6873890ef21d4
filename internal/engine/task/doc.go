// Package task runs tasks: containers that share volumes and a network, and that
// live and die together as those of an ECS task definition do. It runs them over
// any engine.Engine, and knows no service: what a task needs of others (secrets,
// logs, credentials) comes in by the functions of Config.
//
//	Run -> PROVISIONING -> PENDING -> ACTIVATING -> RUNNING
//	                          |           |            |    an essential container ends, Stop
//	                          v           v            v
//	                       STOPPING <- DEACTIVATING <--+
//	                          |
//	                          v
//	                    DEPROVISIONING -> STOPPED -> Delete
//
// # Rows and steps
//
// What is wanted and what has become of it are rows:
//
//	task/specs       (task)             the Task, as it was given
//	task/tasks       (task)             state, times, reasons; by due time; those that live
//	task/containers  (task, container)  state, exit, restarts
//	task/healths     (task, container)  what its health checks say
//	task/cursors     (task, container)  how far its output is sent
//	task/volumes     (account, volume)  shared volumes
//
// A step of a task reads its rows, asks the engine about its containers (observe
// folds the answers in), decides (plan, which is pure), acts, and writes the rows
// back. Steps are taken by children of the one loop, one at a time for a task:
// after changes, after the engine's events, when a row's time has come, and for
// all tasks at the start and each minute.
//
// A container's id in the engine follows from task and name, so that one that was
// made before a crash is found and not made again. Rows precede acts where acts
// could not be told from their absence afterwards: a restart is counted before it
// happens, the end of all containers is written before they are removed. A signal
// may be sent twice. The times of kills and timeouts are rows.
//
// Config.Changed is called in the transaction that writes the rows, so that an
// owner's own rows and events are as durable as they.
//
// # Output
//
// With awslogs, a child for each container reads its log from the kept cursor on
// and hands it to Config.PutLogs in batches. The cursor, with the beginnings of
// lines that have no end yet, is written after each: a crash between the two sends
// a batch again, unless PutLogs calls LogBatch.Advance in its own transaction. What
// was written while no server ran is sent by the next one. A task is not STOPPED
// before its output is sent, or has been refused for a minute.
//
// # Inside
//
// In each sandbox (the task's in awsvpc, each container's in bridge and none) are
// the task metadata endpoint (version 4) and the credentials of the task's role on
// 169.254.170.2, and as Config says a resolver, and Skerry under AWS's names. They
// are opened before a program starts, and again by a new process.
//
// # As AWS, and not
//
// Texts and codes are those of the ECS agent, or Fargate's where a task has them
// before it has containers. Differences:
//
//   - A container without a limit of its own sees its task's as its own, so that
//     programs size themselves by it. Where a driver has no groups (engine/docker),
//     Task.CPU and Task.Memory bound each container and not the sum of them.
//   - A container has no swap unless it asks for some; swappiness is the machine's.
//   - All images are fetched before anything is started, as on Fargate.
//   - A dependency HEALTHY on a container that has ended unhealthy fails at once,
//     without waiting for the start timeout.
//   - In bridge mode a task's containers have a network of their own, so that they
//     reach others by published ports alone.
//   - Host mode has neither metadata nor credentials inside: the machine's network
//     is not the runner's to listen on.
//   - Non-blocking logs drop the oldest output, not the newest.
//   - What the image has at the place of a volume is copied into one that is empty,
//     whether the image declares it a VOLUME or not; not into a folder of the machine.
//   - Container.NoNewPrivileges has to be asked for, as with Docker: the user
//     namespace is the wall.
//
// A driver that cannot listen inside of a container (engine/docker) runs no tasks but
// those in host mode: the others fail with its error.
//
// Not built, and refused: GPUs, volume drivers but local, log drivers but awslogs
// and json-file, awslogs-endpoint and awslogs-format. Not built, and without a place
// in Task, so that owners refuse them: EFS and FSx volumes, App Mesh and Service
// Connect, FireLens, pidMode and ipcMode (each container has its own), swappiness,
// security options but no-new-privileges, credential specifications. Links are lines
// of /etc/hosts, without Docker's variables. The metadata has no
// EphemeralStorageMetrics, no ClockDrift and no tags, its stats only what the engine
// counts.
package task
