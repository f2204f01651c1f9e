package service

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// standAlone serves one client on standard input and output (-S).
func (p *process) standAlone(ctx context.Context) int {
	conn := &Conn{Conn: stdio(), Runtime: p.rt, state: &connState{ctx: ctx, timeout: p.rt.Config.Duration("ipc_timeout")}}
	defer conn.Close()
	defer func() {
		if r := recover(); r != nil {
			p.log.Panic("%s", Trace(r))
			os.Exit(1)
		}
	}()
	var err error
	if p.s.Kind == Trigger {
		buffer := make([]byte, triggerSize)
		n, _ := conn.Read(buffer)
		p.s.Trigger(ctx, p.rt, buffer[:n])
	} else {
		err = p.s.Serve(ctx, conn)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		p.log.Warn("%v", err)
	}
	if p.s.Done != nil {
		p.s.Done(p.rt)
	}
	return 0
}

// stdio is standard input and output as a connection: the socket itself if
// standard input is one, as under inetd.
func stdio() net.Conn {
	if c, err := net.FileConn(os.Stdin); err == nil {
		return c
	}
	return &files{in: pollable(os.Stdin), out: pollable(os.Stdout)}
}

// pollable makes reads of a pipe end at a deadline, where that can be done.
func pollable(f *os.File) *os.File {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return f
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name())
}

// pipeConn is a connection on something that is not a socket: the pipe that
// master passes to wake up a service of type pass.
func pipeConn(f *os.File, attrs map[string]string) (net.Conn, map[string]string, error) {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, nil, err
	}
	syscall.CloseOnExec(fd)
	_ = syscall.SetNonblock(fd, true)
	file := os.NewFile(uintptr(fd), "passed")
	return &files{in: file, out: file}, attrs, nil
}

// files is a connection made of two files.
type files struct{ in, out *os.File }

func (f *files) Read(b []byte) (int, error)  { return f.in.Read(b) }
func (f *files) Write(b []byte) (int, error) { return f.out.Write(b) }

func (f *files) Close() error {
	err := f.in.Close()
	if f.out != f.in {
		err = errors.Join(err, f.out.Close())
	}
	return err
}

func (f *files) LocalAddr() net.Addr  { return stdioAddr{} }
func (f *files) RemoteAddr() net.Addr { return stdioAddr{} }

func (f *files) SetDeadline(t time.Time) error {
	return errors.Join(f.SetReadDeadline(t), f.SetWriteDeadline(t))
}

// Files that cannot be polled have no deadlines; that is not an error of the
// caller.
func (f *files) SetReadDeadline(t time.Time) error {
	if err := f.in.SetReadDeadline(t); !errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	return nil
}

func (f *files) SetWriteDeadline(t time.Time) error {
	if err := f.out.SetWriteDeadline(t); !errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	return nil
}

// stdioAddr is the address of what has none.
type stdioAddr struct{}

func (stdioAddr) Network() string { return "file" }
func (stdioAddr) String() string  { return "stdin" }
