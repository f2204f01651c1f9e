package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/crew"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/sock"
)

// Times and sizes of the contract (spec §1.8, §1.9).
const (
	defaultWatchdog = 1000 * time.Second
	maxRetire       = 18000 * time.Second
	triggerWait     = 10 * time.Second
	triggerSize     = 1024
	datagramSize    = 4096
	tableInterval   = 10 * time.Second
	busyInterval    = 1000 * time.Second
	acceptPause     = time.Second // after "too many open files" and the like
	tidyAfter       = time.Second // an idle daemon gives its memory back
)

// server is a daemon in its loop. One goroutine accepts; each client has its
// own.
type server struct {
	s       *Service
	rt      *Runtime
	log     *maillog.Logger
	listen  []int
	status  channel
	lock    *acceptLock
	wake    int  // eventfd that ends the loop's poll
	ours    bool // under our own master
	maxUse  int  // clients after which we leave; 0 is no limit
	maxIdle time.Duration

	unlimited int       // clients for whom there are descriptors
	leaveAt   time.Time // retirement; zero is none
	dog       time.Duration
	ipc       time.Duration

	supervised bool // our parent is the child of master, and waits for us

	crew     *crew.Crew    // serves the clients
	requests chan struct{} // places for requests of Multi daemons

	pulse pulse // of the accept loop

	tables sync.Mutex // one look at the tables at a time

	mu        sync.Mutex
	conns     map[*Conn]struct{}
	active    int // clients being served
	used      int // clients served
	idleSince time.Time
	tidied    bool // memory was given back since the last client
	proven    bool // master knows that we can serve a client
	full      bool // master was told that we have no free place
	leave     string
	busyWarn  time.Time
}

func newServer(p *process, lock *acceptLock) *server {
	c := p.rt.Config
	v := &server{
		s: p.s, rt: p.rt, log: p.log, lock: lock,
		ours: p.env(EnvLimit) != "", conns: map[*Conn]struct{}{},
		maxIdle: c.Duration("max_idle"), ipc: c.Duration("ipc_timeout"),
		idleSince: time.Now(), unlimited: unlimited(p.s), crew: crew.New(), supervised: p.alive > 0,
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		v.log.Fatal("eventfd: %v", maillog.Errno(err))
	}
	v.wake = wake
	v.status = channel{fd: StatusFD, pid: statusPid(p.env), generation: p.generation()}
	for i := range p.o.sockets {
		v.listen = append(v.listen, ListenFD+i)
	}
	if v.ours {
		v.lock = nil // our master starts no second process while we accept
	}
	if p.s.MinIdle != "" {
		v.maxIdle = max(v.maxIdle, c.Duration(p.s.MinIdle))
	}
	if !p.s.NoMaxUse {
		v.maxUse = c.Int("max_use") * p.rt.Places
	}
	if p.s.Retire || p.o.retire > 0 {
		after := min(maxRetire, v.maxIdle*time.Duration(max(1, c.Int("max_use"))))
		if p.o.retire > 0 {
			after = time.Duration(p.o.retire) * time.Second
		}
		v.leaveAt = time.Now().Add(after)
	}
	if p.s.NoMaxIdle {
		v.maxIdle = 0
	}
	switch {
	case p.s.Watchdog != "":
		v.dog = c.Duration(p.s.Watchdog)
	case p.s.Kind == Single || p.s.Kind == Multi:
		v.dog = c.Duration("daemon_timeout")
	default:
		v.dog = defaultWatchdog
	}
	if p.s.Kind == Multi {
		v.requests = make(chan struct{}, p.rt.Places)
	}
	return v
}

// limit is the number of connections accepted at once.
func (v *server) limit() int {
	if v.s.Kind == Multi || v.s.Quick {
		return v.unlimited // the places are for requests, or none is needed
	}
	return v.rt.Places
}

// run serves until there is a reason to leave; it returns the exit status.
func (v *server) run(ctx context.Context) int {
	if v.lock != nil {
		v.lock.ready = v.poke
	}
	if v.ours {
		v.status.send(StatusConcurrent)
	}
	v.pulse.start()
	go v.watch()

	loopCtx, stopLoop := context.WithCancel(ctx)
	defer stopLoop()
	looped := make(chan struct{})
	if v.s.Loop == nil {
		close(looped)
	} else {
		go func() {
			defer close(looped)
			defer v.fatalPanic()
			if err := v.s.Loop(loopCtx, v.rt); err != nil && loopCtx.Err() == nil {
				v.log.Fatal("%v", err)
			}
			v.quit("loop ended")
		}()
	}

	told := v.accept(ctx)
	v.drain(told)
	stopLoop()
	<-looped
	v.waitIdle()
	if v.s.Done != nil {
		v.s.Done(v.rt)
	}
	return 0
}

// accept is the loop; it returns whether master already knows that we leave.
func (v *server) accept(ctx context.Context) (told bool) {
	tables := time.Now().Add(tableInterval)
	poll, err := newPoller(v.listen, v.wake, StatusFD)
	if err != nil {
		v.log.Fatal("epoll: %v", maillog.Errno(err))
	}
	defer poll.close()
	for {
		now := time.Now()
		v.pulse.beat()
		free, wait, leave := v.due(now)
		if leave != "" {
			if v.log.Verbose() > 0 {
				v.log.Info("%s -- exiting", leave)
			}
			return false
		}
		if v.s.Kind == Multi && v.s.TableChanged != nil {
			if now.After(tables) {
				if v.tableChanged() {
					return false
				}
				tables = now.Add(tableInterval)
			}
			wait = min(wait, tableInterval)
		}
		watching := free && v.lock.acquire()
		if !free {
			v.lock.release()
		}
		if err := poll.watch(watching); err != nil {
			v.log.Fatal("epoll: %v", maillog.Errno(err))
		}
		events, err := poll.wait(wait)
		if err != nil {
			v.log.Fatal("epoll: %v", maillog.Errno(err))
		}
		ready := false
		for _, e := range events {
			switch int(e.Fd) {
			case v.wake:
				var b [8]byte
				_, _ = unix.Read(v.wake, b[:])
			case StatusFD:
				return true
			}
		}
		for _, e := range events {
			fd := int(e.Fd)
			if fd == v.wake || fd == StatusFD {
				continue
			}
			if !ready && v.s.TableChanged != nil && v.tableChanged() {
				return false
			}
			ready = true
			if !v.take(ctx, fd) {
				break
			}
		}
		if ready {
			v.lock.release()
		}
	}
}

// due says whether there is a free place, how long the loop may sleep, and
// why we should leave.
func (v *server) due(now time.Time) (free bool, wait time.Duration, leave string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	wait = max(v.dog/3, time.Second)
	switch {
	case v.leave != "":
		return false, 0, v.leave
	case v.maxUse > 0 && v.used >= v.maxUse:
		return false, 0, "max_use"
	case !v.leaveAt.IsZero() && !now.Before(v.leaveAt):
		return false, 0, "retirement"
	}
	if !v.leaveAt.IsZero() {
		wait = min(wait, v.leaveAt.Sub(now))
	}
	if v.maxIdle > 0 {
		left := v.maxIdle
		if v.active == 0 {
			left = v.idleSince.Add(v.maxIdle).Sub(now)
		}
		if left <= 0 {
			return false, 0, "max_idle"
		}
		wait = min(wait, left)
	}
	if !v.tidied {
		if v.active == 0 && now.Sub(v.idleSince) >= tidyAfter {
			v.tidied = true
			go debug.FreeOSMemory()
		}
		wait = min(wait, tidyAfter)
	}
	return v.active < v.limit(), wait, ""
}

func (v *server) tableChanged() bool {
	v.tables.Lock()
	defer v.tables.Unlock()
	name, changed := v.s.TableChanged()
	switch {
	case changed && v.s.Kind == Event:
		v.log.Info("table %s has changed - finishing in the background", name)
	case changed:
		v.log.Info("table %s has changed -- restarting", name)
	}
	return changed
}

// silent are the errors of accept that say nothing about us.
var silent = map[error]bool{
	unix.EAGAIN: true, unix.ECONNREFUSED: true, unix.ECONNRESET: true, unix.EHOSTDOWN: true,
	unix.EHOSTUNREACH: true, unix.EINTR: true, unix.ENETDOWN: true, unix.ENETUNREACH: true,
	unix.ENOTCONN: true, unix.ENOBUFS: true, unix.ECONNABORTED: true, unix.EPROTO: true,
}

// take takes what is ready on a listen descriptor. It reports whether there
// is still a free place.
func (v *server) take(ctx context.Context, fd int) bool {
	switch {
	case v.s.Kind == Dgram:
		v.lock.release()
		v.datagram(ctx, fd)
		return true
	case v.rt.Transport == "fifo":
		v.lock.release()
		buffer := make([]byte, triggerSize)
		if n, err := unix.Read(fd, buffer); err == nil && n > 0 {
			v.begin(nil)
			go v.guard(nil, func() { v.s.Trigger(ctx, v.rt, buffer[:n]) })
		}
		return false
	}
	client, err := sock.Accept(fd)
	if err != nil {
		if !silent[err] {
			v.log.Warn("accept connection: %v", maillog.Errno(err))
			time.Sleep(acceptPause)
		}
		return true
	}
	if v.s.Quick && v.rt.Transport != "pass" && v.quick(ctx, client.FD) {
		return true
	}
	state := &connState{server: v, ctx: ctx, timeout: v.ipc}
	conn := &Conn{Runtime: v.rt, Transport: v.rt.Transport, state: state}
	state.pulse.start()
	more := v.begin(conn)
	v.crew.Go(func() { v.guard(conn, func() { v.client(ctx, conn, client) }) })
	return more
}

// quick serves a client of a Quick daemon in the loop's own goroutine, if the
// request is there already, as it is in most cases: whoever sends one connects
// and writes in one go. Otherwise it reports false.
func (v *server) quick(ctx context.Context, fd int) bool {
	var buffer [triggerSize]byte
	n, errno := sock.ReadNow(fd, buffer[:])
	if errno == unix.EAGAIN {
		return false
	}
	sock.CloseNow(fd)
	v.begin(nil)
	v.guard(nil, func() {
		if n > 0 {
			v.s.Trigger(ctx, v.rt, buffer[:n])
		}
	})
	return true
}

// begin counts a client in.
func (v *server) begin(conn *Conn) (more bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.active++
	v.tidied = false
	if conn != nil {
		v.conns[conn] = struct{}{}
	}
	if v.active < v.limit() {
		return true
	}
	v.dropKept()
	if v.rt.Places > 1 {
		v.busy()
	}
	if v.ours && !v.full {
		v.full = true
		v.status.send(StatusTaken)
	}
	return false
}

// busy warns that all places are taken, as master does for daemons that it
// counts itself. Under our master that is master's business.
func (v *server) busy() {
	if v.ours || time.Since(v.busyWarn) < busyInterval && !v.busyWarn.IsZero() {
		return
	}
	v.busyWarn = time.Now()
	v.log.Warn("service \"%s\" has reached its process limit \"%d\": new clients may experience noticeable delays", v.rt.ServiceName, v.limit())
	v.log.Warn("to avoid this condition, increase the process count in master.cf or reduce the service time per client")
	v.log.Warn("see http://www.postfix.org/STRESS_README.html for examples of stress-adapting configuration settings")
}

// end counts a client out and keeps master informed: that we have a free
// place again, and once that we have served a client, so that trouble later
// is not taken for a bad start.
func (v *server) end(conn *Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, conn)
	wake := v.active >= v.limit() // the loop does not watch for clients
	v.active--
	v.used++
	if v.active == 0 {
		v.idleSince = time.Now()
	}
	heard := true
	switch {
	case v.full:
		v.full = false
		heard = v.status.send(StatusAvailable)
	case !v.proven && v.leave == "" && v.ours:
		heard = v.status.send(StatusConcurrent)
	case !v.proven && v.leave == "":
		heard = v.status.send(StatusTaken, StatusAvailable)
	}
	v.proven = true
	if !heard && v.leave == "" {
		v.leave = "master disconnect"
	}
	if wake || v.leave != "" || v.maxUse > 0 && v.used >= v.maxUse {
		v.poke()
	}
}

func (v *server) poke() {
	one := [8]byte{1}
	_, _ = unix.Write(v.wake, one[:])
}

// quit makes the loop end.
func (v *server) quit(why string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leave == "" {
		v.leave = why
	}
	v.poke()
}

// guard runs f for one client. A panic there is logged and ends that client.
func (v *server) guard(conn *Conn, f func()) {
	defer v.end(conn)
	defer func() {
		if r := recover(); r != nil {
			v.log.Panic("%s", Trace(r))
		}
		if conn != nil && conn.Conn != nil {
			_ = conn.Conn.Close()
		}
	}()
	f()
}

// fatalPanic ends the daemon after a panic outside of any client: its state is
// not to be trusted.
func (v *server) fatalPanic() {
	if r := recover(); r != nil {
		v.log.Panic("%s", Trace(r))
		os.Exit(2)
	}
}

// Trace is what a recovered panic says, and where it was, on one line.
func Trace(r any) string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	var b strings.Builder
	fmt.Fprintf(&b, "%v; at", r)
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			fmt.Fprintf(&b, " %s:%d", strings.TrimPrefix(f.Function, "posthaste/pkg/"), f.Line)
		}
		if !more {
			return b.String()
		}
	}
}

// client serves one accepted connection.
func (v *server) client(ctx context.Context, conn *Conn, client sock.Client) {
	var raw net.Conn
	if v.rt.Transport != "pass" {
		raw = client.Conn()
	} else {
		var err error
		if raw, err = netConn(client.FD, "client"); err != nil {
			v.log.Warn("accept connection: %v", err)
			return
		}
		raw, conn.Attrs, err = receive(raw, v.s.Kind != Trigger)
		if err != nil {
			prefix := "pass_accept_attr"
			if v.s.Kind == Trigger {
				prefix = "pass_accept"
			}
			v.log.Warn("%s: %v", prefix, err)
			return
		}
		if v.s.Kind == Multi && len(conn.Attrs) > 0 {
			v.log.Warn("service ignores 'pass' connection attributes")
		}
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetKeepAlive(true)
		}
	}
	v.mu.Lock()
	conn.Conn = raw
	v.mu.Unlock()
	if conn.state.leaving.Load() && v.s.Kind == Multi {
		return // came in while we were leaving: the client tries again
	}
	if v.s.Kind == Trigger {
		v.trigger(ctx, conn)
		return
	}
	if v.s.FlowToken {
		delay := v.rt.Config.Duration("in_flow_delay")
		if err := v.rt.FlowControl.Wait(ctx, delay); err != nil {
			v.log.Fatal("%v", err)
		}
	}
	if err := v.s.Serve(ctx, conn); err != nil && !clientGone(err) {
		v.log.Warn("%v", err)
	}
}

// clientGone tells a client that went away, which is no news, from trouble.
func clientGone(err error) bool {
	for _, gone := range []error{io.EOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// trigger reads one message of requests.
func (v *server) trigger(ctx context.Context, conn *Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(triggerWait))
	buffer := make([]byte, triggerSize)
	n, err := conn.Conn.Read(buffer)
	if err != nil || n == 0 {
		return
	}
	conn.Alive()
	v.s.Trigger(ctx, v.rt, buffer[:n])
}

// datagram serves what is queued, in the loop's own goroutine.
func (v *server) datagram(ctx context.Context, fd int) {
	buffer := make([]byte, datagramSize)
	for range 64 {
		n, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		v.begin(nil)
		v.guard(nil, func() { v.s.Datagram(ctx, v.rt, buffer[:n]) })
	}
}

// netConn makes a network connection of a descriptor, which it closes.
func netConn(fd int, name string) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return net.FileConn(f)
}
