// Package master starts and watches all daemons: it opens the listen sockets
// of master.cf, starts a process when a client comes and none is free, and
// keeps count by the status messages of its children (spec master.md §1-3). It
// never accepts a connection itself.
//
// One goroutine owns all state and runs the loop; signals and wakeups come
// from others as messages. Our own daemons serve many clients in one process
// and say so on the status channel; Debian's serve one each, and both are
// counted right (limits.go).
package master

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
	"posthaste/pkg/service"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// envReady names the descriptor on which the background half of "master -w"
// reports that it is up.
const envReady = "POSTHASTE_MASTER_READY"

const usage = "usage: %s [-c config_dir] [-D (debug)] [-d (don't detach from terminal)] [-e exit_time] [-t (test)] [-v] [-w (wait for initialization)]"

// master is the running master.
type master struct {
	name     string // base of argv[0]
	argv     []string
	o        options
	log      *maillog.Logger
	logs     maillog.Config
	config   *conf.Config
	params   params
	first    firstParams
	owner    cred.Identity
	rootless bool
	env      []string // of children, without what differs from child to child

	services   []*serv
	children   map[int]*child
	generation uint32
	flow       [2]int
	timers     timers
	signals    chan os.Signal
	wake       int // eventfd that ends the loop's poll
	now        func() time.Time
	ready      int // descriptor of the monitor; -1 is none
	stop       bool
	spawn      func(s *serv, argv, env []string) (pid int, err error) // replaced in tests
	trigger    func(s *serv)                                          // sends a wakeup; replaced in tests
}

// options is the command line (spec §3.1).
type options struct {
	debug, foreground, init, stdout, test, wait bool
	exitTime                                    int // seconds; 0 is none
	verbose                                     int
	configDir                                   string
}

// Main runs master; args[0] is the name it was called as.
func Main(args []string) int {
	service.Tune()
	syscall.Umask(0o077)
	m := newMaster(args)
	m.readyFD()
	m.startLog()
	m.options(args)
	if m.o.wait && m.ready < 0 {
		return m.monitor()
	}
	m.detach()
	m.configure()
	if err := os.Chdir(m.params.queueDir); err != nil {
		m.log.Fatal("chdir %s: %v", m.params.queueDir, errno(err))
	}
	m.env = m.childEnv(os.Environ())
	if done, code := m.lock(); done {
		return code
	}
	if m.o.debug || os.Getenv("MAIL_DEBUG") != "" {
		m.debugger()
	}
	m.notify()
	if err := unix.Pipe2(m.flow[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		m.log.Fatal("pipe: %v", errno(err))
	}
	m.readServices()
	m.log.Reset(m.logs)
	m.log.Info("daemon started -- version %s, configuration %s", m.config.MailVersion(), m.config.Dir())
	m.report()
	return m.loop()
}

func newMaster(args []string) *master {
	m := &master{
		name: filepath.Base(args[0]), argv: args, ready: -1,
		children: map[int]*child{}, signals: make(chan os.Signal, 64),
		now: time.Now, flow: [2]int{-1, -1},
	}
	m.spawn, m.trigger = m.forkExec, m.sendWakeup
	return m
}

func (m *master) startLog() {
	m.logs = logging.Early(m.name, os.Getenv)
	m.logs.ManyErrors = true
	if os.Getenv(logging.EnvVerbose) != "" {
		m.logs.Verbose = 1
	}
	m.log = maillog.New(m.logs)
}

// options reads the command line and verifies who we are.
func (m *master) options(args []string) {
	if logging.SetID() {
		m.log.Fatal("the master command must not run as a set-uid process")
	}
	o, bad := parseOptions(args)
	if bad != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", args[0], bad)
		m.log.Fatal(usage, args[0])
	}
	switch {
	case o.init && os.Getpid() != 1:
		m.log.Fatal("-i is allowed only for PID 1 process")
	case o.test && o.wait:
		m.log.Fatal("the -t and -w options cannot be used together")
	case o.init && (o.debug || o.foreground || o.wait):
		m.log.Fatal("the -i option cannot be used with -D, -d, or -w")
	}
	if o.configDir != "" {
		os.Setenv("MAIL_CONFIG", o.configDir)
	}
	m.o = o
	m.logs.Verbose += o.verbose
	m.log.Reset(m.logs)
}

func parseOptions(args []string) (o options, bad string) {
	flags := map[byte]*bool{'D': &o.debug, 'd': &o.foreground, 'i': &o.init, 's': &o.stdout, 't': &o.test, 'w': &o.wait}
	rest := args[1:]
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			return o, fmt.Sprintf("unexpected argument -- '%s'", word)
		}
		for i := 1; i < len(word); i++ {
			c := word[i]
			if p := flags[c]; p != nil {
				*p = true
				continue
			}
			if c == 'v' {
				o.verbose++
				continue
			}
			if c != 'c' && c != 'e' {
				return o, fmt.Sprintf("invalid option -- '%c'", c)
			}
			value := word[i+1:]
			if value == "" {
				if len(rest) == 0 {
					return o, fmt.Sprintf("option requires an argument -- '%c'", c)
				}
				value, rest = rest[0], rest[1:]
			}
			if c == 'c' {
				o.configDir = value
			} else if o.exitTime, bad = exitTime(value); bad != "" {
				return o, bad
			}
			break
		}
	}
	return o, ""
}

func exitTime(value string) (int, string) {
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		return 0, fmt.Sprintf("invalid exit time -- '%s'", value)
	}
	return n, ""
}

// detach leaves the terminal: standard input, output and error, and session.
func (m *master) detach() {
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if !m.o.foreground {
		null, err := unix.Open(os.DevNull, unix.O_RDWR, 0)
		if err != nil {
			m.log.Fatal("open %s: %v", os.DevNull, errno(err))
		}
		for fd := 0; fd < 3; fd++ {
			if fd == 1 && (m.o.stdout || m.o.init) {
				continue
			}
			if err := unix.Dup3(null, fd, 0); err != nil && null != fd {
				m.log.Fatal("dup2: %v", errno(err))
			}
		}
		if null > 2 {
			unix.Close(null)
		}
	}
	if m.o.init || m.o.debug || m.o.foreground || m.o.test {
		return
	}
	if _, err := syscall.Setsid(); err != nil {
		if sid, _ := unix.Getsid(0); sid != os.Getpid() {
			m.log.Fatal("unable to set session and process group ID: %v", errno(err))
		}
	}
}

// configure reads main.cf at the start.
func (m *master) configure() {
	m.load()
	m.first = m.params.firstParams
	if os.Getuid() != 0 {
		// Rootless (DESIGN §6): only in a queue of our own.
		if !cred.Owns(m.params.queueDir) {
			m.log.Fatal("the master command is reserved for the superuser")
		}
		m.rootless = true
		m.owner = cred.Identity{UID: os.Getuid(), GID: os.Getgid()}
	}
	// Children get the whole number of open files (setting it also keeps the
	// Go runtime from restoring the old limit in them).
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}

// load reads main.cf, at the start and on reload.
func (m *master) load() {
	c, err := conf.Load(conf.Options{
		Dir: os.Getenv("MAIL_CONFIG"), ProcessName: m.name,
		Fatal: m.log.Fatal, Warn: m.log.Warn, Error: m.log.Error,
	})
	if err != nil {
		m.log.Fatal("%v", err)
	}
	m.config = c
	m.logs, err = logging.Configured(c, m.name, m.logs)
	if err == nil {
		err = logging.Export(c, m.logs)
	}
	if err != nil {
		m.log.Fatal("%v", err)
	}
	m.logs.FallbackFile = c.String("maillog_file")
	m.log.Reset(m.logs)
	m.params = newParams(c)
	if os.Getuid() == 0 {
		id, err := cred.Lookup(c.String("mail_owner"))
		if err != nil {
			m.log.Fatal("%v", err)
		}
		m.owner = cred.Identity{UID: id.UID, GID: id.GID, Groups: []int{id.GID}, Name: id.Name}
	}
}

// debugger runs debugger_command beside us.
func (m *master) debugger() {
	command := m.config.String("debugger_command")
	if command == "" {
		m.log.Fatal("no debugger_command variable set up")
	}
	m.log.Info("running: %s", command)
	if _, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", command}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}); err != nil {
		m.log.Fatal("fork: %v", errno(err))
	}
}

// asOwner runs f with mail_owner's effective ids.
func (m *master) asOwner(f func() error) error {
	if m.rootless {
		return f()
	}
	return cred.As(m.owner, f)
}

func errno(err error) error { return maillog.Errno(err) }

// limitEnv is the variable that tells our own daemons their process limit.
func limitEnv(limit int) string { return service.EnvLimit + "=" + strconv.Itoa(limit) }
