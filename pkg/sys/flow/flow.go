// Package flow is the pipe of tokens with which qmgr slows down cleanup: one
// zero byte is one message's worth of permission (spec master.md §1.11).
//
// The pipe has no owner and no lock; counts are approximate by design.
package flow

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors master hands down.
const (
	ReadFD  = 3
	WriteFD = 4
)

// Control is the flow pipe. The zero Control, and a nil one, is no pipe: Take
// succeeds at once, Put and Count do nothing.
type Control struct {
	read, write int
}

// Open uses two descriptors as the flow pipe. They must be non-blocking.
func Open(read, write int) *Control { return &Control{read: read, write: write} }

// Wait takes one token; when there is none it waits delay (in_flow_delay) and
// goes on without. Both give nil: an error means that there is no pipe.
func (c *Control) Wait(ctx context.Context, delay time.Duration) error {
	if c == nil || c.write == 0 || delay <= 0 {
		return nil
	}
	n, err := c.Take(1)
	if err != nil || n == 1 {
		return err
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Take removes up to n tokens without waiting and returns how many it got.
func (c *Control) Take(n int) (int, error) {
	if c == nil || c.write == 0 {
		return n, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(c.write, &st); err != nil {
		return 0, fmt.Errorf("fstat flow pipe write descriptor: %w", err)
	}
	buffer := make([]byte, min(n, 4096))
	taken := 0
	for taken < n {
		got, err := unix.Read(c.read, buffer[:min(len(buffer), n-taken)])
		if err == unix.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			break
		}
		taken += got
	}
	return taken, nil
}

// Put adds n tokens; those for which the pipe has no room are dropped.
func (c *Control) Put(n int) {
	if c == nil || c.write == 0 {
		return
	}
	buffer := make([]byte, min(n, 4096))
	for n > 0 {
		got, err := unix.Write(c.write, buffer[:min(len(buffer), n)])
		if err == unix.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return
		}
		n -= got
	}
}

// Count is the number of tokens in the pipe.
func (c *Control) Count() (int, error) {
	if c == nil || c.write == 0 {
		return 0, nil
	}
	n, err := unix.IoctlGetInt(c.read, unix.TIOCINQ) // FIONREAD
	if err != nil {
		return 0, fmt.Errorf("mail_flow_count: %w", err)
	}
	return n, nil
}
