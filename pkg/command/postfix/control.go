package postfix

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/sys/maillog"
)

const (
	pidFile    = "pid/master.pid"
	quickStart = "quick-start"
	stopRounds = 5
)

// running tells whether master holds its lock.
func (t *tool) running() bool {
	f, err := os.OpenFile(pidFile, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return filelock.IsBusy(filelock.Lock(f, filelock.Exclusive, filelock.Flock, false))
}

// pid is the number in master's lock file.
func (t *tool) pid() int {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.script.Fatal("cannot read %s: %v", pidFile, reason(err))
	}
	line, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid < 1 {
		t.script.Fatal("bad process number in %s", pidFile)
	}
	return pid
}

// prepare is what comes before master: is it running, and are the
// directories in order?
func (t *tool) prepare() {
	if t.running() {
		t.script.Fatal("the Postfix mail system is already running")
	}
	if _, err := os.Lstat(quickStart); err == nil {
		_ = os.Remove(quickStart)
	} else {
		if command.Catch(t.checkFatal) != 0 {
			t.script.Fatal("Postfix integrity check failed!")
		}
		t.checkWarn()
	}
	t.script.Info("starting the Postfix mail system")
}

// start returns when master listens.
func (t *tool) start() int {
	t.prepare()
	cmd := exec.Command(t.dirs.daemon+"/master", "-w")
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = t.environ, t.env.Stdin, nil, t.env.Stderr
	if f, ok := t.env.Stdout.(*os.File); ok {
		cmd.Stdout = f
	}
	if t.wait(cmd) != 0 {
		t.script.Fatal("mail system startup failed")
	}
	return 0
}

// startForeground becomes or awaits master.
func (t *tool) startForeground() int {
	t.prepare()
	instances := t.config.List("multi_instance_directories")
	if !t.rootless { // a secondary instance is refused, too, as it is in the original
		instances = append(instances, defaultInstances()...)
	}
	if len(instances) > 0 {
		t.script.Fatal("start-fg does not support multi_instance_directories")
	}
	master := t.dirs.daemon + "/master"
	if os.Getpid() == 1 {
		err := syscall.Exec(master, []string{master, "-i"}, t.environ)
		t.script.Fatal("cannot start-fg the master daemon: %v", reason(err))
	}
	return t.exec(master, "-s")
}

func (t *tool) mustRun() {
	if !t.running() {
		t.script.Fatal("the Postfix mail system is not running")
	}
}

// halt stops master and its children.
func (t *tool) halt() int {
	t.mustRun()
	t.script.Info("stopping the Postfix mail system")
	pid := t.pid()
	if !t.kill(pid, syscall.SIGTERM) {
		return 1
	}
	for range stopRounds {
		if !t.running() {
			return 0
		}
		t.script.Info("waiting for the Postfix mail system to terminate")
		t.sleep(time.Second)
	}
	t.script.Warn("stopping the Postfix mail system with force")
	t.kill(-pid, syscall.SIGKILL)
	return 0
}

// quickStop stops, and lets the next start skip the checks.
func (t *tool) quickStop() int {
	command.Catch(func() int { return t.halt() })
	f, err := os.OpenFile(quickStart, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.script.Log(maillog.LevelError, "create %s: %v", quickStart, reason(err))
		return 1
	}
	f.Close()
	return 0
}

func (t *tool) abort() int {
	t.mustRun()
	t.script.Info("aborting the Postfix mail system")
	return code(t.kill(t.pid(), syscall.SIGTERM))
}

// drain ends master only; its children finish what they are doing.
func (t *tool) drain() int {
	t.mustRun()
	t.script.Info("stopping the Postfix mail system")
	return code(t.kill(t.pid(), syscall.SIGKILL))
}

// reload makes master and all daemons read their configuration anew.
func (t *tool) reload() int {
	t.mustRun()
	if reasons := t.unusable(); len(reasons) > 0 {
		t.refuse(t.script, reasons)
	}
	t.script.Info("refreshing the Postfix mail system")
	postsuper := t.dirs.command + "/postsuper"
	if t.exec(postsuper, "active") != 0 {
		return 1
	}
	if !t.kill(t.pid(), syscall.SIGHUP) {
		return 1
	}
	cmd := exec.Command(postsuper)
	cmd.Env = t.environ
	if err := cmd.Start(); err != nil {
		t.script.Log(maillog.LevelError, "cannot execute %s: %v", postsuper, reason(err))
		return 1
	}
	go cmd.Wait()
	return 0
}

func (t *tool) status() int {
	if !t.running() {
		t.script.Info("the Postfix mail system is not running")
		return 1
	}
	t.script.Info("the Postfix mail system is running: PID: %d", t.pid())
	return 0
}

func (t *tool) kill(pid int, sig syscall.Signal) bool {
	err := syscall.Kill(pid, sig)
	if err != nil {
		t.script.Log(maillog.LevelError, "kill %d: %v", pid, reason(err))
	}
	return err == nil
}

func code(ok bool) int {
	if ok {
		return 0
	}
	return 1
}
