package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/flow"
	"posthaste/pkg/sys/maillog"
)

// Descriptors that master hands down (spec §1.1).
const (
	StatusFD = 5
	ListenFD = 6
)

// Environment variables of the contract. The last two are Posthaste's own:
// the process limit tells a daemon that it runs under our master and how many
// clients to serve at once, the status pid for whom a supervised daemon speaks.
const (
	EnvGeneration = "GENERATION"
	EnvLimit      = "POSTHASTE_PROCESS_LIMIT"
	envStatusPid  = "POSTHASTE_STATUS_PID"
)

// process is one daemon on its way from exec to its loop.
type process struct {
	s    *Service
	o    options
	rt   *Runtime
	log  *maillog.Logger
	logs maillog.Config
	env  func(string) string

	alive int // descriptor that ends with our supervisor; 0 is none
}

// Run is the whole life of a daemon; argv[0] is the name it was called as. It
// returns the exit status; fatal trouble ends the process by itself.
func Run(s Service, argv []string, env []string) int {
	p := &process{s: &s, env: getenv(env)}
	name := filepath.Base(argv[0])
	if s.Name == "" {
		s.Name = name
	}
	defer func() {
		if r := recover(); r != nil {
			p.log.Panic("%s", Trace(r))
			os.Exit(2)
		}
	}()
	Tune()
	syscall.Umask(0o077)
	// Caught and dropped, so that a write gets EPIPE or EFBIG and commands
	// that we run start with the default action.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ)
	p.startLog(name)
	p.options(argv, name)
	p.configure(name)
	p.check()
	if s.Kind == Event && !p.o.standAlone {
		if code, parent := p.supervise(argv, env); parent {
			return code
		}
	}

	// As root, in the queue directory.
	queueDir := p.rt.Config.String("queue_directory")
	if err := os.Chdir(queueDir); err != nil {
		p.log.Fatal("chdir(\"%s\"): %v", queueDir, maillog.Errno(cause(err)))
	}
	lock := p.openLock()
	p.rt.Queue = queue.Open(".", p.rt.Config).WithLog(p.log)
	if s.Setup != nil {
		p.must(s.Setup(p.rt))
	}
	_, _ = time.Now().Local().Zone() // loads the time zone before the chroot

	p.dropPrivileges(queueDir)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.Start != nil {
		p.must(s.Start(ctx, p.rt))
	}
	if p.o.standAlone {
		return p.standAlone(ctx)
	}
	v := newServer(p, lock)
	if p.alive > 0 {
		go v.follow(p.alive)
	}
	return v.run(ctx)
}

// getenv looks names up in an environment list.
func getenv(env []string) func(string) string {
	return func(name string) string {
		for _, e := range env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (p *process) must(err error) {
	if err != nil {
		p.log.Fatal("%v", err)
	}
}

// startLog opens the log as the environment says.
func (p *process) startLog(name string) {
	p.logs = logging.Early(name, p.env)
	p.logs.ManyErrors = true // one client's trouble must not end the others
	if p.env(logging.EnvVerbose) != "" {
		p.logs.Verbose = 1
	}
	p.log = maillog.New(p.logs)
}

// options reads the command line.
func (p *process) options(argv []string, name string) {
	o, err := parseOptions(p.s, argv)
	p.o = o
	p.logs.Stderr = o.logStderr
	p.logs.Verbose += o.verbose
	if o.logStderr {
		p.log.Reset(p.logs)
	}
	if err != nil {
		p.log.Fatal("%v", err)
	}
	if p.o.name == "" {
		p.o.name = name
	}
	if !o.noDetach && !o.standAlone && isTerminal(0) {
		p.logs.Stderr = true
		p.log.Reset(p.logs)
		p.log.Fatal("do not run this command by hand")
	}
	if len(o.args) > 0 && !p.s.Arguments {
		p.log.Fatal("unexpected command-line argument: %s", o.args[0])
	}
}

// configure reads main.cf and starts the log anew.
func (p *process) configure(name string) {
	overrides := p.o.overrides
	for _, x := range []struct{ name, value string }{{"max_idle", p.o.maxIdle}, {"max_use", p.o.maxUse}} {
		if x.value != "" {
			overrides = append(overrides, x.name+"="+x.value)
		}
	}
	c, err := conf.Load(conf.Options{
		Dir: p.env("MAIL_CONFIG"), Overrides: overrides, ServiceName: p.o.name, ProcessName: name,
		Fatal: p.log.Fatal, Warn: p.log.Warn, Error: p.log.Error,
	})
	p.must(err)
	p.logs, err = logging.Configured(c, name, p.logs)
	p.must(err)
	p.must(logging.Export(c, p.logs))
	p.log.Reset(p.logs)
	p.rt = &Runtime{
		Config: c, Log: p.log, Args: p.o.args, Options: p.o.own,
		ServiceName: p.o.name, ProcessName: name, Transport: p.o.transport,
		Root: os.Geteuid() == 0, Chroot: p.o.chroot, StandAlone: p.o.standAlone,
		Places: p.places(c),
	}
	p.rt.Owner, err = owner(c)
	p.must(err)
}

// owner is the account of mail_owner, or ours when we are not root.
func owner(c *conf.Config) (cred.Identity, error) {
	if os.Getuid() != 0 {
		id, err := cred.LookupID(os.Geteuid())
		if err != nil {
			id = cred.Identity{UID: os.Geteuid(), GID: os.Getegid()}
		}
		return id, nil
	}
	name := c.String("mail_owner")
	id, err := cred.Lookup(name)
	if errors.Is(err, cred.ErrUnknownUser) {
		return id, fmt.Errorf("unknown user: %s", name)
	}
	return id, err
}

// check verifies what the daemon insists on.
func (p *process) check() {
	if p.o.standAlone {
		p.s.OwnSession = false
		return
	}
	name := p.s.Name
	switch {
	case p.o.transport == "":
		p.log.Fatal("no transport type specified")
	case !p.s.Kind.supports(p.o.transport):
		p.log.Fatal("unsupported transport type: %s", p.o.transport)
	case p.s.Requires == One && !p.o.one:
		p.log.Fatal("service %s requires a process limit of 1", name)
	case p.s.Requires == Zero && !p.o.zero:
		p.log.Fatal("service %s requires a process limit of 0", name)
	case p.s.Privileged && p.o.unprivileged:
		p.log.Fatal("service %s requires privileged operation", name)
	}
	for fd := flow.ReadFD; fd < ListenFD+p.o.sockets; fd++ {
		unix.CloseOnExec(fd)
	}
	if isFIFO(flow.ReadFD) && isFIFO(flow.WriteFD) {
		p.rt.FlowControl = flow.Open(flow.ReadFD, flow.WriteFD)
	}
	if p.s.OwnSession {
		_, _ = syscall.Setsid()
	}
	if p.o.debug {
		p.debugger()
	}
}

// transports a Kind can be used with.
var transports = map[Kind]string{
	Single: " inet unix pass ", Multi: " inet unix pass ", Event: " inet unix pass ",
	Trigger: " unix fifo pass ", Dgram: " unix-dgram ",
}

func (k Kind) supports(transport string) bool {
	return strings.Contains(transports[k], " "+transport+" ")
}

// generation is our number of master's child counter.
func (p *process) generation() uint32 {
	text := p.env(EnvGeneration)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		p.log.Fatal("bad generation: %s", text)
	}
	return uint32(n)
}

// debugger starts debugger_command beside us.
func (p *process) debugger() {
	command := p.rt.Config.String("debugger_command")
	if command == "" {
		p.log.Fatal("no debugger_command variable set up")
	}
	p.log.Info("running: %s", command)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	p.must(err)
	defer null.Close()
	process, err := os.StartProcess("/bin/sh", []string{"sh", "-c", command}, &os.ProcAttr{Files: []*os.File{null, os.Stdout, os.Stderr}})
	p.must(err)
	go process.Wait()
	time.Sleep(time.Second)
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

func isFIFO(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}
