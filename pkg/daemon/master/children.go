package master

import (
	"fmt"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/service"
)

const (
	sigTerm = syscall.SIGTERM
	sigKill = syscall.SIGKILL

	// timerSlack is by how many nanoseconds timers of a daemon may be late
	// (prctl(2); the default is 50,000). It goes to a child with the thread that
	// forks it, and matters because the runtime's monitor thread would otherwise
	// wake up every 20 microseconds of each wait for the disk.
	timerSlack = 500_000

	removeWait = 100 * time.Second // before SIGKILL for children of a removed service
)

func kill(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }
func closeFD(fd int)                         { _ = unix.Close(fd) }

// start forks one child, which counts as available.
func (m *master) start(s *serv) {
	now := m.now()
	if s.stressed && !s.anyConcurrent() && s.load()+1 >= s.maxproc {
		m.stress(s)
	}
	m.generation++
	env := append(append([]string{}, m.env...), fmt.Sprintf("%s=%o", service.EnvGeneration, m.generation), limitEnv(s.maxproc))
	pid, err := m.spawn(s, s.arguments(now), env)
	if err != nil {
		m.log.Warn("master_spawn: fork: %v -- throttling", errno(err))
		m.throttleNow(s)
		return
	}
	if pid == 0 { // the program could not be executed; that was said
		m.log.Warn("%s: bad command startup -- throttling", s.path)
		m.throttleNow(s)
		return
	}
	c := &child{pid: pid, generation: m.generation, serv: s, epoch: s.epoch, avail: true}
	m.children[pid], s.children[pid] = c, c
	s.avail++
	if s.onUse && s.wakeup > 0 && !s.woken {
		m.scheduleWakeup(s)
	}
}

func (s *serv) anyConcurrent() bool {
	for _, c := range s.children {
		if c.concurrent {
			return true
		}
	}
	return false
}

// forkExec starts the program of s. A pid of 0 without an error: there is no
// such program.
func (m *master) forkExec(s *serv, argv, env []string) (int, error) {
	files := []uintptr{0, 1, 2, uintptr(m.flow[0]), uintptr(m.flow[1]), uintptr(s.status[1])}
	for _, fd := range s.listen {
		files = append(files, uintptr(fd))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
	pid, err := syscall.ForkExec(s.path, argv, &syscall.ProcAttr{Env: env, Files: files})
	switch err {
	case nil:
		return pid, nil
	case syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		return 0, err
	}
	m.log.Error("master_spawn: exec %s: %v", s.path, errno(err))
	return 0, nil
}

// openStatus makes a status channel.
func (m *master) openStatus(s *serv) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		m.log.Fatal("socketpair: %v", errno(err))
	}
	s.status = pair
	s.epoch++
}

// closeStatus closes it; children see that and leave. A child with many
// clients accepts no more, so it is not available.
func (m *master) closeStatus(s *serv) {
	closeFD(s.status[0])
	closeFD(s.status[1])
	s.status = [2]int{-1, -1}
	for _, c := range s.children {
		if c.concurrent && c.avail {
			c.avail = false
			s.avail--
		}
	}
}

// statusEvent reads the status messages that wait (spec §1.4).
func (m *master) statusEvent(s *serv) {
	var buffer [64 * service.StatusSize]byte
	n, err := unix.Read(s.status[0], buffer[:])
	switch {
	case err != nil:
		m.log.Warn("master_status_event: read: %v", errno(err))
		return
	case n == 0:
		m.log.Panic("master_status_event: read EOF status")
		return
	}
	for data := buffer[:n]; len(data) > 0; {
		var message [service.StatusSize]byte
		n := copy(message[:], data)
		data = data[n:]
		pid, generation, status := service.ParseStatus(message)
		if n != len(message) {
			m.log.Warn("service %s: child (pid %d) sent partial status update (%d bytes)", s.id(), pid, n)
			return
		}
		m.statusMessage(s, pid, generation, status)
	}
}

func (m *master) statusMessage(s *serv, pid int, generation uint32, status int) {
	c := m.children[pid]
	if c == nil || c.serv != s {
		return
	}
	if c.generation != generation {
		m.log.Info("ignoring status update from child pid %d generation %d", pid, generation)
		return
	}
	switch status {
	case service.StatusConcurrent: // at its start, and again after its first client
		if c.concurrent {
			c.use++
		}
		c.concurrent = true
	case service.StatusLeaving:
		c.leaving = true
		if c.avail {
			c.avail = false
			s.avail--
		}
	case service.StatusAvailable:
		if !c.avail {
			c.avail = true
			c.use++
			s.avail++
		}
	case service.StatusTaken:
		if c.avail {
			c.avail = false
			s.avail--
			m.checkBusy(s)
		}
	default:
		m.log.Warn("master_status_event: ignoring unknown status: %d allegedly from pid: %d", pid, status)
	}
}

// reap takes leave of all children that have ended.
func (m *master) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		m.reaped(pid, status)
	}
}

func (m *master) reaped(pid int, status syscall.WaitStatus) {
	c := m.children[pid]
	if c == nil {
		if !m.o.init && !m.o.debug {
			m.log.Warn("master_reap: unknown pid: %d", pid)
		}
		return
	}
	s := c.serv
	if status.Stopped() {
		m.log.Warn("process %s pid %d stopped by signal %d", s.path, pid, int(status.StopSignal()))
		return
	}
	normal := status.Exited() && status.ExitStatus() == 0
	switch {
	case normal:
	case status.Exited():
		m.log.Warn("process %s pid %d exit status %d", s.path, pid, status.ExitStatus())
	case status.Signaled() && !(s.deleted && status.Signal() == syscall.SIGTERM):
		m.log.Warn("process %s pid %d killed by signal %d", s.path, pid, int(status.Signal()))
	}
	delete(m.children, pid)
	delete(s.children, pid)
	if c.avail {
		s.avail--
	}
	if !normal && c.use == 0 && !s.deleted && !s.isThrottled(m.now()) {
		m.log.Warn("%s: bad command startup -- throttling", s.path)
		m.throttleNow(s)
	}
}
