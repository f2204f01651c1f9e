// Package qmgr is the queue manager: it takes messages from incoming and
// deferred into the active queue, finds out where each recipient goes, and has
// delivery agents deliver them, within the limits of spec routing.md §4.
//
// One goroutine, the owner (see manager.run), has all scheduling state, in package
// sched. Everything that may wait – reading and moving queue files, asking the
// resolver, talking to agents, having notices sent – runs in other goroutines of
// bounded number, which hand their results back as functions on one channel. A
// message goes through
//
//	scan      a scanner streams ids out of a queue directory
//	activate  rename to active, lock, read the envelope, resolve recipients
//	assign    sched groups recipients into requests
//	deliver   a connection to an agent; request and final reply
//	finish    bounces, reports, expiry; then removed, deferred or the next batch
//
// A queue file is removed only by finish, when every recipient in it has been
// accounted for: delivered, or in a notice that cleanup has taken over. A crash
// anywhere leaves the file in active; the next start moves it back to incoming and
// the recipients not marked done are tried again.
//
// Trouble with one message is logged and leaves that message in the queue. Fatal is
// used for what only a restart can mend: the agent protocol timeouts of §4.4.
package qmgr
