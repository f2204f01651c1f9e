package tlsproxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bufferSize is what a session holds of each direction, in bytes: a TLS record.
const bufferSize = 16 << 10

// margin is how much longer than a client asks for a session may do nothing:
// the client is to notice first.
const margin = 10 * time.Second

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// relay passes data both ways until one side ends, or nothing has moved for
// too long.
func (s *session) relay(cipher *tls.Conn, network net.Conn) {
	var moved atomic.Int64
	moved.Store(time.Now().UnixNano())
	var once sync.Once
	done := make(chan struct{})
	finish := func() { once.Do(func() { close(done) }) }

	var both sync.WaitGroup
	both.Go(func() { // what the program writes
		if s.copy(cipher, s.in.Buffered(), &moved) == nil {
			cipher.SetWriteDeadline(time.Now().Add(time.Second))
			_ = cipher.CloseWrite()
		}
		finish()
	})
	both.Go(func() { // what the network says
		if err := s.copy(s.plain, cipher, &moved); err != nil && !ordinary(err) {
			s.log.Warn("ciphertext read/write error for %s", s.Endpoint)
		}
		finish()
	})
	both.Go(func() {
		idle := s.limit(s.Session) + margin
		tick := time.NewTicker(min(idle/4, time.Second))
		defer tick.Stop()
		for {
			select {
			case <-done:
			case <-s.ctx.Done():
			case now := <-tick.C:
				if now.UnixNano()-moved.Load() < int64(idle) {
					continue
				}
				s.log.Warn("ciphertext read/write timeout for %s", s.Endpoint)
			}
			s.plain.Close()
			network.Close()
			return
		}
	})
	both.Wait()
}

// copy copies until the end of the input, which is no error.
func (s *session) copy(to io.Writer, from io.Reader, moved *atomic.Int64) error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			moved.Store(time.Now().UnixNano())
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
			moved.Store(time.Now().UnixNano())
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ordinary tells the ways in which a connection ends that are not worth a
// warning: one side has gone away.
func ordinary(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
