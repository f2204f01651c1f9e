package master

import (
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/service/logging"
)

const (
	maxSleep   = 500 * time.Second // the loop passes at least so often
	watchdog   = 1000 * time.Second
	lastResort = 5 * time.Second // to end after a death signal
)

// deaths are the signals that end master (spec §3.4).
var deaths = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGBUS, syscall.SIGSEGV}

// notify installs the signal handlers.
func (m *master) notify() {
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		m.log.Fatal("eventfd: %v", errno(err))
	}
	m.wake = wake
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ) // children inherit that
	arrived := make(chan os.Signal, 64)
	signal.Notify(arrived, append([]os.Signal{syscall.SIGHUP, syscall.SIGCHLD}, deaths...)...)
	go func() {
		for s := range arrived {
			if s == syscall.SIGCHLD {
				select { // one is as good as many
				case m.signals <- s:
				default:
				}
			} else {
				m.signals <- s
			}
			one := [8]byte{1}
			_, _ = unix.Write(m.wake, one[:])
		}
	}()
}

// loop is master's work until it ends.
func (m *master) loop() int {
	// By the monotonic clock: a machine that slept, or whose clock was set,
	// is not a loop that hangs.
	began := time.Now()
	var beat atomic.Int64
	go func() {
		for range time.Tick(watchdog / 3) {
			if time.Since(began)-time.Duration(beat.Load()) > watchdog {
				m.log.Fatal("watchdog timeout")
			}
		}
	}()
	if m.o.exitTime > 0 {
		m.timers.start(m.now().Add(time.Duration(m.o.exitTime)*time.Second), func() {
			m.log.Info("master exit time has arrived")
			m.stop = true
		})
	}
	for !m.stop {
		beat.Store(int64(time.Since(began)))
		m.pass()
	}
	return 0
}

// pass is one turn of the loop: timers, signals, status messages, clients.
func (m *master) pass() {
	m.timers.run(m.now())
	now := m.now()
	wait := m.timers.wait(now, maxSleep)
	fds := []unix.PollFd{{Fd: int32(m.wake), Events: unix.POLLIN}}
	type source struct {
		s      *serv
		status bool
	}
	whose := []source{{}}
	for _, s := range m.services {
		fds = append(fds, unix.PollFd{Fd: int32(s.status[0]), Events: unix.POLLIN})
		whose = append(whose, source{s, true})
		if s.isThrottled(now) {
			wait = min(wait, s.throttled.Sub(now))
		}
		if s.wanted(now) {
			for _, fd := range s.listen {
				fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
				whose = append(whose, source{s, false})
			}
		}
	}
	if m.stop {
		return
	}
	n, err := unix.Poll(fds, int(wait/time.Millisecond)+1)
	if err != nil && err != unix.EINTR {
		m.log.Fatal("poll: %v", errno(err))
	}
	if n <= 0 {
		return
	}
	for i, fd := range fds {
		if w := whose[i]; w.status && fd.Revents != 0 && int(fd.Fd) == w.s.status[0] {
			m.statusEvent(w.s)
		}
	}
	for i, fd := range fds {
		if w := whose[i]; w.s != nil && !w.status && fd.Revents != 0 && w.s.wanted(m.now()) {
			m.start(w.s)
		}
	}
	if fds[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(m.wake, b[:])
		m.handleSignals()
	}
}

// handleSignals acts on what has arrived: deaths first, then children, then a
// reload.
func (m *master) handleSignals() {
	reload := false
	for {
		select {
		case s := <-m.signals:
			switch s {
			case syscall.SIGCHLD:
				m.reap()
			case syscall.SIGHUP:
				reload = true
			default:
				m.die(s.(syscall.Signal))
				return
			}
		default:
			if reload {
				m.reload()
			}
			return
		}
	}
}

// die ends all children and then master, by the signal that it got.
func (m *master) die(sig syscall.Signal) {
	// Our own SIGTERM goes where all of them go, and nobody looks there now.
	_ = syscall.Kill(-os.Getpid(), syscall.SIGTERM)
	m.log.Info("terminating on signal %d", int(sig))
	if m.o.init {
		os.Exit(0)
	}
	signal.Reset(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(lastResort)
	os.Exit(1)
}

// reload reads main.cf and master.cf anew (spec §3.5), if they are usable.
func (m *master) reload() {
	if err := m.usable(); err != nil {
		m.log.Error("not reloaded, the old configuration stays in force: %v", err)
		return
	}
	m.log.Info("reload -- version %s, configuration %s", m.config.MailVersion(), m.config.Dir())
	m.load()
	m.params.ipv4, m.params.ipv6 = m.first.ipv4, m.first.ipv6
	m.ignored("config_directory", m.first.configDir, m.params.configDir)
	m.ignored("queue_directory", m.first.queueDir, m.params.queueDir)
	m.ignored("inet_protocols", m.first.inetProtocols, m.params.inetProtocols)
	for _, name := range []string{"MAIL_CONFIG", logging.EnvTag, logging.EnvService, logging.EnvHost} {
		if imported(m.params.importEnv, name) {
			m.env = setEnv(m.env, name, os.Getenv(name))
		}
	}
	m.readServices()
	m.log.Reset(m.logs)
	m.reap()
}

// imported tells whether import_environment names a variable.
func imported(list, name string) bool {
	words, err := importWords(list)
	if err != nil {
		return false
	}
	for _, w := range words {
		if w == name || strings.HasPrefix(w, name+"=") {
			return true
		}
	}
	return false
}

// ignored says that a change takes effect at the next start only.
func (m *master) ignored(name, was, is string) {
	if was == is {
		return
	}
	m.log.Warn("ignoring %s parameter value change", name)
	m.log.Warn("old value: \"%s\", new value: \"%s\"", was, is)
	m.log.Warn("to change %s, stop and start Postfix", name)
}
