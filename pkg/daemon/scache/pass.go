package scache

import (
	"errors"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/fdpass"
)

// The sender of a descriptor waits until its receiver says, by an empty list
// "dummy", that it is ready (spec ipc.md §1.5).
const ready = "dummy"

var errAhead = errors.New("client did not wait for our answer")

func (c *client) waitReady() error {
	var empty string
	return c.in.Scan(attr.Str(ready, &empty))
}

// receive takes a descriptor from the client.
func (c *client) receive() (fd int, err error) {
	if c.in.Buffered().Buffered() > 0 {
		return -1, errAhead // the descriptor may be lost already
	}
	if err := c.out.Str(ready, "").Send(); err != nil {
		return -1, err
	}
	return fdpass.RecvFD(c.raw)
}

// send passes a descriptor to the client and waits until it has it.
func (c *client) send(fd int) error {
	if err := c.waitReady(); err != nil {
		return err
	}
	if err := fdpass.Send(c.raw, fd); err != nil {
		return err
	}
	return c.waitReady()
}
