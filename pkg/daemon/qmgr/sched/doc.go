// Package sched decides what the queue manager delivers next. It is pure state:
// no files, sockets, goroutines or clock of its own, so all of it runs on a fake
// clock in tests.
//
// The owner (one goroutine) feeds it events – recipients of a message that were
// resolved (Assign), an agent connection that is ready (Ready), a delivery that
// ended (Done), time that went by (Tick) – and takes from it what has to be done
// (Actions). Rules and names are those of spec routing.md §4.3-4.7:
//
//   - a Transport is a delivery agent service ("smtp"); it is alive or dead;
//   - a Queue is one destination of a transport, with its concurrency window;
//   - a Job is the share of one Message that goes to one transport; jobs form the
//     preemptive list of §4.6;
//   - an Entry is one delivery request: recipients of one message for one queue.
//
// The scheduler returns no errors. Its memory is bounded by what the owner lets in:
// Messages and Recipients tell how much that is, and Actions of kind Refill tell
// how many recipients may follow.
package sched
