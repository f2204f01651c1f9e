package master

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf/mastercf"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// TestMain is also master and the daemon that master runs in the tests.
func TestMain(m *testing.M) {
	if os.Getenv("MASTER_TEST") != "" {
		os.Exit(Main(os.Args))
	}
	if filepath.Base(os.Args[0]) == "echod" {
		os.Exit(echod())
	}
	os.Exit(m.Run())
}

// echod is a daemon as Debian's are: one client at a time, blocking. Its
// arguments are written to each client.
func echod() int {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == "crash" {
		return 3
	}
	send := func(v int) error {
		generation, _ := strconv.ParseUint(os.Getenv("GENERATION"), 8, 32)
		m := service.FormatStatus(os.Getpid(), uint32(generation), v)
		_, err := unix.Write(service.StatusFD, m[:])
		return err
	}
	signalled := []unix.PollFd{{Fd: service.ListenFD, Events: unix.POLLIN}, {Fd: service.StatusFD, Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(signalled, -1); err != nil {
			continue
		}
		if signalled[1].Revents != 0 {
			return 0
		}
		fd, _, err := unix.Accept(service.ListenFD)
		if err != nil {
			continue
		}
		_ = send(service.StatusTaken)
		f := os.NewFile(uintptr(fd), "client")
		fmt.Fprintf(f, "%d %s|%s\n", os.Getpid(), strings.Join(os.Args, " "), strings.Join(os.Environ(), " "))
		_, _ = io.Copy(io.Discard, f)
		f.Close()
		if send(service.StatusAvailable) != nil {
			return 0
		}
	}
}

// fake is a master whose clock and forks are the test's.
type fake struct {
	*master
	clock  time.Time
	forks  [][]string
	wakes  []string
	logged *maillog.Buffer
}

func newFake(t *testing.T) *fake {
	f := &fake{master: newMaster([]string{"master"}), clock: time.Unix(1e9, 0)}
	f.log, f.logged = maillog.Capture()
	f.now = func() time.Time { return f.clock }
	f.params = params{processLimit: 100, throttle: time.Minute, inetInterfaces: "all", firstParams: firstParams{ipv4: true}}
	f.master.spawn = func(s *serv, argv, env []string) (int, error) {
		f.forks = append(f.forks, append(append([]string{}, argv...), env...))
		return 1000 + len(f.forks), nil
	}
	f.trigger = func(s *serv) { f.wakes = append(f.wakes, s.name) }
	return f
}

func (f *fake) add(t *testing.T, e mastercf.Entry) *serv {
	t.Helper()
	s, _, err := f.service(e)
	if err != nil {
		t.Fatal(err)
	}
	f.openStatus(s)
	t.Cleanup(func() { f.closeStatus(s) })
	f.startWakeup(s)
	f.services = append(f.services, s)
	return s
}

// status is a message of the n-th child.
func (f *fake) status(s *serv, n, value int) {
	m := service.FormatStatus(1000+n, uint32(n), value)
	_, _ = unix.Write(s.status[1], m[:])
	f.statusEvent(s)
}

func (f *fake) exit(n int, status syscall.WaitStatus) { f.reaped(1000+n, status) }

var (
	smtpd = mastercf.Entry{Name: "smtp", Type: "inet", Unpriv: true, Chroot: true, MaxProc: 2, Command: "smtpd", Args: []string{"-o", "a = b"}}
	qmgr  = mastercf.Entry{Name: "qmgr", Type: "unix", Unpriv: true, MaxProc: 1, Command: "qmgr", Wakeup: 300}
)

func TestArguments(t *testing.T) {
	f := newFake(t)
	for _, x := range []struct {
		e    mastercf.Entry
		want string
	}{
		{smtpd, "smtpd -n smtp -t inet -u -c -o stress= -o|a = b"},
		{qmgr, "qmgr -l -t unix -u"},
		{mastercf.Entry{Name: "cleanup", Type: "unix", Unpriv: true, Chroot: true, Command: "cleanup"}, "cleanup -z -t unix -u -c"},
		{mastercf.Entry{Name: "127.0.0.1:25", Type: "inet", MaxProc: 5, Command: "smtpd"}, "smtpd -n 127.0.0.1:25 -t inet"},
		{mastercf.Entry{Name: "smtpd", Type: "pass", MaxProc: 5, Command: "smtpd"}, "smtpd -t pass -o stress="},
		{mastercf.Entry{Name: "postlog", Type: "unix-dgram", Unpriv: true, MaxProc: 1, Command: "postlogd"}, "postlogd -l -n postlog -t unix-dgram -u"},
	} {
		s, _, err := f.service(x.e)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(s.arguments(f.clock), " ")
		if want := strings.ReplaceAll(x.want, "|", " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Debian's daemons: one client a process, one fork at a time, up to the limit.
func TestForkOnDemand(t *testing.T) {
	f := newFake(t)
	s := f.add(t, smtpd)
	if !s.wanted(f.clock) {
		t.Fatal("an idle service is not polled")
	}
	f.start(s)
	if s.wanted(f.clock) {
		t.Error("polled though a child is available")
	}
	f.status(s, 1, 0)
	if !s.wanted(f.clock) {
		t.Error("not polled though the only child is busy")
	}
	f.start(s)
	f.status(s, 2, 0)
	if s.wanted(f.clock) {
		t.Error("polled beyond the process limit")
	}
	if lines := f.logged.Lines(); len(lines) != 3 || !strings.Contains(lines[0], `service "smtp" (25) has reached its process limit "2"`) {
		t.Errorf("log: %q", lines)
	}
	f.status(s, 1, 1)
	f.status(s, 1, 1) // the same again changes nothing
	if s.avail != 1 || s.wanted(f.clock) {
		t.Errorf("available %d", s.avail)
	}
	f.exit(1, 0)
	if s.avail != 0 || len(s.children) != 1 || !s.wanted(f.clock) {
		t.Errorf("after exit: %d available of %d", s.avail, len(s.children))
	}
	// The fork that reached the limit began a stress period.
	f.start(s)
	if got := strings.Join(f.forks[2], " "); !strings.Contains(got, "stress=yes") || !strings.Contains(got, "GENERATION=3") {
		t.Errorf("third child: %s", got)
	}
	f.clock = f.clock.Add(stressTime + time.Second)
	if got := strings.Join(s.arguments(f.clock), " "); strings.Contains(got, "stress=yes") {
		t.Errorf("stress does not end: %s", got)
	}
}

// A child that has served its share says so and gets a successor, which is no
// sign of stress; one that has served at all did not start badly.
func TestConcurrentChildLeaves(t *testing.T) {
	f := newFake(t)
	s := f.add(t, smtpd)
	f.start(s)
	f.status(s, 1, service.StatusConcurrent)
	f.status(s, 1, service.StatusConcurrent)
	f.status(s, 1, service.StatusLeaving)
	if !s.wanted(f.clock) {
		t.Fatal("clients wait for a process that accepts no more")
	}
	f.start(s)
	if got := strings.Join(f.forks[1], " "); strings.Contains(got, "stress=yes") {
		t.Errorf("leaving is taken for stress: %s", got)
	}
	f.exit(1, syscall.WaitStatus(9))
	if s.isThrottled(f.clock) {
		t.Error("the death of a child that has served throttles the service")
	}
}

// Ours: one process for all clients of a row.
func TestConcurrentChild(t *testing.T) {
	f := newFake(t)
	s := f.add(t, smtpd)
	f.start(s)
	f.status(s, 1, service.StatusConcurrent)
	f.status(s, 1, 0) // full
	if s.avail != 0 {
		t.Error("available though full")
	}
	// Full is stress: the child is replaced by one that knows of it.
	if !s.wanted(f.clock) {
		t.Fatal("no successor")
	}
	f.start(s)
	if got := strings.Join(f.forks[1], " "); !strings.Contains(got, "stress=yes") || !strings.Contains(got, service.EnvLimit+"=2") {
		t.Errorf("successor: %s", got)
	}
	f.status(s, 2, service.StatusConcurrent)
	f.status(s, 2, 0)
	if s.wanted(f.clock) {
		t.Error("a third process within the stress period")
	}
	// Reload: a draining child does not keep its successor waiting ...
	q := f.add(t, qmgr)
	f.start(q)
	f.status(q, 3, service.StatusConcurrent)
	f.restart(s)
	f.exit(1, 0)
	if !s.wanted(f.clock) {
		t.Error("no successor after reload")
	}
	// ... unless the limit is one.
	f.restart(q)
	if q.wanted(f.clock) {
		t.Error("two queue managers")
	}
	f.exit(3, 0)
	if !q.wanted(f.clock) {
		t.Error("no queue manager")
	}
}

func TestStatusNoise(t *testing.T) {
	f := newFake(t)
	s := f.add(t, qmgr)
	f.start(s)
	f.status(s, 7, 0) // unknown pid
	_, _ = unix.Write(s.status[1], []byte("short"))
	f.statusEvent(s)
	old := service.FormatStatus(1001, 99, 0)
	_, _ = unix.Write(s.status[1], old[:])
	f.statusEvent(s)
	f.status(s, 1, 77)
	if s.avail != 1 {
		t.Errorf("available %d", s.avail)
	}
	want := []string{"sent partial status update (5 bytes)", "ignoring status update from child pid 1001 generation 99", "ignoring unknown status: 1001 allegedly from pid: 77"}
	for i, line := range f.logged.Lines() {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d: %s", i, line)
		}
	}
}

func TestThrottle(t *testing.T) {
	f := newFake(t)
	s := f.add(t, mastercf.Entry{Name: "x", Type: "unix", MaxProc: 3, Command: "x", Wakeup: 10})
	f.timers.run(f.clock)
	f.start(s)
	f.exit(1, 3<<8)
	lines := f.logged.Lines()
	if len(lines) != 2 || lines[0] != "warning: process /x pid 1001 exit status 3" || lines[1] != "warning: /x: bad command startup -- throttling" {
		t.Errorf("log: %q", lines)
	}
	if s.wanted(f.clock) {
		t.Error("not throttled")
	}
	f.clock = f.clock.Add(30 * time.Second)
	f.timers.run(f.clock)
	if len(f.wakes) != 1 {
		t.Errorf("%d wakeups while throttled", len(f.wakes))
	}
	f.clock = f.clock.Add(31 * time.Second)
	f.timers.run(f.clock)
	if !s.wanted(f.clock) || len(f.wakes) != 2 {
		t.Errorf("throttled for ever, %d wakeups", len(f.wakes))
	}
	// One that has served a client may crash without that.
	f.start(s)
	f.status(s, 2, 0)
	f.status(s, 2, 1)
	f.exit(2, 9)
	if !s.wanted(f.clock) {
		t.Error("throttled after a served client")
	}
}

func TestWakeup(t *testing.T) {
	f := newFake(t)
	q := f.add(t, qmgr)
	u := f.add(t, mastercf.Entry{Name: "flush", Type: "unix", Command: "flush", Wakeup: 1000, WakeupOnUse: true})
	f.timers.run(f.clock)
	if len(f.wakes) != 1 || f.wakes[0] != q.name {
		t.Errorf("at start: %q", f.wakes)
	}
	f.clock = f.clock.Add(300 * time.Second)
	f.timers.run(f.clock)
	f.start(u)
	f.timers.run(f.clock)
	f.start(u)
	f.timers.run(f.clock)
	if got := strings.Join(f.wakes, " "); got != "public/qmgr public/qmgr public/flush" && got != "private/qmgr private/qmgr private/flush" {
		t.Errorf("wakeups: %s", got)
	}
	f.restart(u) // reload: off until used again
	f.clock = f.clock.Add(2000 * time.Second)
	f.timers.run(f.clock)
	for _, w := range f.wakes[3:] {
		if w == u.name {
			t.Error("wakeup of an unused service after reload")
		}
	}
}

func TestEndpoints(t *testing.T) {
	p := &params{firstParams: firstParams{ipv4: true, ipv6: true}, inetInterfaces: "all", ports: map[string]string{"smtp": "25"}}
	for name, want := range map[string]string{
		"smtp": "25 [0.0.0.0:25 [::]:25]", "25": "25 [0.0.0.0:25 [::]:25]",
		"127.0.0.1:2525": "[127.0.0.1]:2525 [127.0.0.1:2525]", "[::1]:26": "[::1]:26 [[::1]:26]",
		"[ipv6:::1]:26": "[::1]:26 [[::1]:26]", ":26": "26 [0.0.0.0:26 [::]:26]",
	} {
		n, err := p.parseInet(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		addrs, err := p.addresses(n)
		if got := fmt.Sprint(n.internal(), " ", addrs); got != want || err != nil {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	f := newFake(t)
	f.params.importEnv = "MAIL_CONFIG MAIL_DEBUG TZ LANG=C, { X = a b }"
	got := f.childEnv([]string{"PATH=/bin", "TZ=UTC", "MAIL_CONFIG=/x", "LANG=de"})
	if want := "MAIL_CONFIG=/x|TZ=UTC|LANG=C|X=a b"; strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}

// site is a real master, started by the test.
type site struct {
	t    *testing.T
	dir  string
	self string
}

func newSite(t *testing.T, masterCF string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	for _, d := range []string{s.dir, filepath.Dir(s.dir)} {
		_ = os.Chmod(d, 0o755)
	}
	owner, group := "daemon", "mail"
	if os.Getuid() != 0 {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		owner = me.Username
	}
	for _, d := range []string{"etc", "spool/pid", "spool/public", "spool/private", "lib", "sbin"} {
		must(t, os.MkdirAll(filepath.Join(s.dir, d), 0o777))
		must(t, os.Chmod(filepath.Join(s.dir, d), 0o777))
	}
	self, err := os.Executable()
	must(t, err)
	s.self = self
	must(t, os.Symlink(self, filepath.Join(s.dir, "sbin/echod")))
	main := fmt.Sprintf("compatibility_level = 3.6\nqueue_directory = %[1]s/spool\ndata_directory = %[1]s/lib\ndaemon_directory = %[1]s/sbin\nmail_owner = %[2]s\nsetgid_group = %[3]s\nmyhostname = h.example.com\nmaillog_file = %[1]s/log\nmaillog_file_prefixes = /\ninet_protocols = ipv4\nservice_throttle_time = 1s\n", s.dir, owner, group)
	must(t, os.WriteFile(filepath.Join(s.dir, "etc/main.cf"), []byte(main), 0o644))
	s.masterCF(masterCF)
	t.Cleanup(func() {
		if pid := s.pid(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			s.await("end", func() bool { return s.command("-t").Run() == nil })
		}
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) masterCF(text string) {
	must(s.t, os.WriteFile(filepath.Join(s.dir, "etc/master.cf"), []byte(text), 0o644))
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.self, args...)
	cmd.Args[0] = "master"
	cmd.Env = []string{"MASTER_TEST=1", "MAIL_CONFIG=" + filepath.Join(s.dir, "etc"), "TZ=UTC"}
	return cmd
}

func (s *site) pid() int {
	data, _ := os.ReadFile(filepath.Join(s.dir, "spool/pid/master.pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	if pid > 0 && len(data) != 33 {
		s.t.Errorf("lock file of %d bytes", len(data))
	}
	return pid
}

func (s *site) log() string {
	data, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(data)
}

func (s *site) await(what string, ok func() bool) {
	s.t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	s.t.Fatalf("waited in vain for %s; log:\n%s", what, s.log())
}

// ask connects to a service and returns what its child says of itself.
func (s *site) ask(name string) (pid int, line string, conn net.Conn) {
	s.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(s.dir, "spool", name))
	must(s.t, err)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	if err != nil {
		s.t.Fatalf("%v; log:\n%s", err, s.log())
	}
	line = string(buffer[:n])
	pid, _ = strconv.Atoi(strings.Fields(line)[0])
	return pid, line, conn
}

func TestRealMaster(t *testing.T) {
	s := newSite(t, "one unix n - n - 2 echod\ngone unix n - n - 2 echod\nbad unix - - n - 2 echod crash\n")
	must(t, s.command("-t").Run())
	if out, err := s.command("-w").CombinedOutput(); err != nil {
		t.Fatalf("start: %v %s; log:\n%s", err, out, s.log())
	}
	if s.command("-t").Run() == nil {
		t.Error("-t does not see a running master")
	}
	if s.command("-w").Run() == nil {
		t.Error("two masters")
	}
	a, line, connA := s.ask("public/one")
	for _, want := range []string{"echod -n one -t unix -u|", "MAIL_LOGTAG=postfix", "GENERATION=1", "TZ=UTC", "LANG=C", "POSTLOG_SERVICE="} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	b, _, connB := s.ask("public/one")
	if a == b {
		t.Error("two clients in one process")
	}
	connA.Close()
	time.Sleep(200 * time.Millisecond)
	c, _, connC := s.ask("public/one")
	if a != c {
		t.Errorf("process %d did not take the next client, %d did", a, c)
	}
	defer connC.Close()

	// A crash throttles, and the cycle repeats.
	conn, err := net.Dial("unix", filepath.Join(s.dir, "spool/private/bad"))
	must(t, err)
	defer conn.Close()
	s.await("throttling twice", func() bool { return strings.Count(s.log(), "bad command startup -- throttling") >= 2 })

	// Reload: idle children leave, busy ones finish, a removed service ends.
	g, _, connG := s.ask("public/gone")
	defer connG.Close()
	connB.Close()
	s.masterCF("one unix n - n - 2 echod -v\n")
	must(t, syscall.Kill(s.pid(), syscall.SIGHUP))
	s.await("reload", func() bool {
		return strings.Contains(s.log(), "reload -- version") && syscall.Kill(g, 0) != nil && syscall.Kill(b, 0) != nil
	})
	if syscall.Kill(c, 0) != nil {
		t.Error("a busy child died in a reload")
	}
	d, line, connD := s.ask("public/one")
	if d == a || d == b || !strings.Contains(line, "-u -v|") {
		t.Errorf("after reload: %s", line)
	}
	connD.Close()
	connC.Close()

	// The children do not outlive master, however it ends.
	pid := s.pid()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	s.await("children to leave", func() bool { return syscall.Kill(d, 0) != nil && syscall.Kill(c, 0) != nil })
	must(t, s.command("-t").Run())
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-t", "-w"}, {"-i"}, {"-x"}, {"word"}, {"-e"}, {"-e", "x"}} {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = []string{"MASTER_TEST=1", "MAIL_CONFIG=/nonexistent"}
		if err := cmd.Run(); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
