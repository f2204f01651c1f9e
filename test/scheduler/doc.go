// Package scheduler tests the queue manager as a whole, in a running mail system:
// the order in which it delivers, beside Debian's; what trouble with some
// destinations means for the others; a large queue beside new mail; a reload.
//
// The tests run at a size that suits `make test`. SCHEDULER_FULL=1 in the
// environment runs them at full size.
package scheduler
