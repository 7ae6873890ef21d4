// Package sim runs the store, the outbox and the loops in one process from a seed,
// on a file system in memory that drops what was not synced when it crashes, and
// crashes it at any write, sync or rename. After some crashes it lets everything
// come to rest, and checks that
//
//   - what was acknowledged is there, and counters count each increment once;
//   - every event whose cause is there was delivered, and none whose cause is not;
//   - nothing is left in the outbox: events to deleted targets end.
//
// TestTasks does the same to tasks, over a fake engine that goes on while the
// server is down: programs run as often as their rows say, output is written once,
// owners know how it ended, and nothing is left over.
//
// The seed decides the operations, the places of the crashes and what becomes of
// unsynced bytes; goroutines interleave as they like. Run one seed, or more of
// them, by
//
//	go test ./test/sim -seed 7
//	go test ./test/sim -seeds 1000
package sim
