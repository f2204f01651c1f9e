package service

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// Values of a status message. The last two are ours, and only our master is
// told (spec §1.4 has the others; Debian's master would log an unknown
// status). Concurrent says at the start of a daemon that it serves many
// clients, and after its first client that it has served one. Leaving says
// that it accepts no more, though it still serves: it is time for a successor.
const (
	StatusTaken      = 0
	StatusAvailable  = 1
	StatusConcurrent = 2
	StatusLeaving    = 3
)

// StatusSize is the length of a status message.
const StatusSize = 12

// FormatStatus is the message a child writes on descriptor 5.
func FormatStatus(pid int, generation uint32, status int) [StatusSize]byte {
	var m [StatusSize]byte
	binary.NativeEndian.PutUint32(m[0:], uint32(int32(pid)))
	binary.NativeEndian.PutUint32(m[4:], generation)
	binary.NativeEndian.PutUint32(m[8:], uint32(int32(status)))
	return m
}

// ParseStatus takes such a message apart.
func ParseStatus(m [StatusSize]byte) (pid int, generation uint32, status int) {
	return int(int32(binary.NativeEndian.Uint32(m[0:]))),
		binary.NativeEndian.Uint32(m[4:]),
		int(int32(binary.NativeEndian.Uint32(m[8:])))
}

// channel is our end of the status socket.
type channel struct {
	mu         sync.Mutex
	fd         int // -1 stand-alone
	pid        int
	generation uint32
}

// send writes messages in one go; it reports whether master heard us.
func (c *channel) send(values ...int) bool {
	if c.fd < 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range values {
		m := FormatStatus(c.pid, c.generation, v)
		n, err := unix.Write(c.fd, m[:])
		for err == unix.EINTR {
			n, err = unix.Write(c.fd, m[:])
		}
		if err != nil || n != len(m) {
			return false
		}
	}
	return true
}
