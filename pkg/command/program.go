package command

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/sys/maillog"
)

// Program is a command that works in the queue directory, from its first log
// record on. The order is OpenLog, the command line, EnterQueue, the work.
type Program struct {
	Name      string // in log records, and what main.cf sees as process_name
	StderrTag string // on standard error; "" is Name
	// FatalExit is the exit status of a fatal error, which then ends the
	// program at once; 0 is status 1 after a second's wait.
	FatalExit int
	Env       Env
	Log       *maillog.Logger // set by OpenLog

	logs maillog.Config
}

// OpenLog starts the log as the environment says; what is logged goes to
// standard error, too.
func (p *Program) OpenLog() {
	p.logs = logging.Early(p.Name, func(name string) string { v, _ := p.Env.Lookup(name); return v })
	p.logs.Stderr, p.logs.StderrTag, p.logs.ErrorOutput = true, p.StderrTag, p.Env.Stderr
	if p.StderrTag == "" {
		p.logs.StderrTag = p.Name
	}
	if p.FatalExit != 0 {
		p.logs.Exit = func(int) { os.Exit(p.FatalExit) }
		p.logs.Sleep = func(time.Duration) {}
	}
	p.Log = maillog.New(p.logs)
}

// EnterQueue reads main.cf in configDir ("" is the default directory), opens
// the log that it names and changes to queue_directory. A set-gid program
// keeps of its environment what import_environment names.
func (p *Program) EnterQueue(configDir string, verbose int) (*conf.Config, error) {
	c, err := conf.Load(conf.Options{Dir: configDir, ProcessName: p.Name, Fatal: p.Log.Fatal, Warn: p.Log.Warn, Error: p.Log.Error})
	if err != nil {
		return nil, err
	}
	if logging.SetID() {
		reduceEnvironment(c.List("import_environment"))
	}
	if p.logs, err = logging.Configured(c, p.Name, p.logs); err != nil {
		return nil, err
	}
	p.logs.Verbose = verbose
	p.Log.Reset(p.logs)
	return c, Chdir(c)
}

// Fail logs what ended the program and returns its exit status.
func (p *Program) Fail(err error) int {
	p.Log.Log(maillog.LevelFatal, "%v", err)
	return max(p.FatalExit, 1)
}

// Chdir changes to queue_directory.
func Chdir(c *conf.Config) error {
	dir := c.String("queue_directory")
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("chdir %s: %w", dir, maillog.Errno(err))
	}
	return nil
}

// OnSignal calls f, in a goroutine, at the first signal that asks the program
// to end: SIGINT and SIGQUIT, SIGTERM and SIGHUP unless they were ignored at
// the start. stop ends that; it may be called once.
func OnSignal(f func(syscall.Signal)) (stop func()) {
	list := []os.Signal{syscall.SIGINT, syscall.SIGQUIT}
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, list...)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-caught:
			f(s.(syscall.Signal))
		case <-done:
		}
	}()
	return func() {
		signal.Stop(caught)
		close(done)
	}
}
