// Package world makes small private machines for tests: a mount, network, host
// name and process namespace in which a mail system is installed at Debian's paths,
// with users, /etc/postfix, a spool, a syslog and port 25, beside any number
// of other such machines and without touching the real one.
//
// The machine sees the real /usr, /etc and /var through overlays, on top of
// which lies one suite: Debian's postfix package or what `make install` lays
// down. Single programs may be taken from the other suite: that is the
// interchange test (DESIGN §4). Everything ends with Close, or with the
// test's own death, because the namespace's first process reads a pipe from
// the test.
//
// It needs root (for namespaces), the directory build/debian (made by
// fetch.sh) and build/ours (made by `make build/ours`).
package world

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Suite is one of the two mail systems.
type Suite int

const (
	Ours   Suite = iota
	Debian       // Debian 12's package
)

func (s Suite) String() string { return [...]string{"ours", "debian"}[s] }

// other is the suite from which swapped programs come.
func (s Suite) other() Suite { return 1 - s }

// Options say what machine to make. The zero value is our suite with
// Debian's stock main.cf and master.cf.
type Options struct {
	Suite Suite
	// Swap names programs to take from the other suite: a daemon ("smtpd"),
	// or a path ("/usr/sbin/postqueue").
	Swap []string
	// Layers are directories with usr, etc and var of their own that the
	// machine sees below the suite and above the real machine's.
	Layers []string
	// Memory keeps the machine's files in memory: faster, and gone with it.
	Memory bool
	// Main are main.cf settings beyond the stock file, applied in order.
	Main []string
	// Dir is a directory to keep the machine's files in; made and removed
	// with the machine when it is empty.
	Dir string
}

// World is one running machine.
type World struct {
	Dir     string // its files on the real machine
	Options Options
	init    *exec.Cmd
	alive   io.WriteCloser // closing it ends the machine
	netns   *os.File
	syslog  *net.UnixConn
	mu      sync.Mutex
	lines   bytes.Buffer
	ownDir  bool
}

// ErrUnavailable is wrapped by New when this machine cannot make worlds.
var ErrUnavailable = errors.New("no private test machine here")

// Root finds the repository's top directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("no go.mod above the working directory")
}

// tree is where a suite's files lie.
func tree(s Suite) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", s.String())
	if _, err := os.Stat(filepath.Join(dir, "usr/lib/postfix/sbin/master")); err != nil {
		return "", fmt.Errorf("%w: %s is missing (run make build/%s)", ErrUnavailable, dir, s)
	}
	return dir, nil
}

// Inside is where a machine sees a suite's files.
func Inside(s Suite) string { return "/mnt/" + s.String() }

// program is the path of a swappable program.
func program(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return "/usr/lib/postfix/sbin/" + name
}

// New makes a machine; the mail system is installed but not started.
func New(o Options) (*World, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: namespaces need root", ErrUnavailable)
	}
	debian, err := tree(Debian)
	if err != nil {
		return nil, err
	}
	suite, err := tree(o.Suite)
	if err != nil {
		return nil, err
	}
	w := &World{Options: o, Dir: o.Dir}
	if w.Dir == "" {
		w.ownDir = true
		top, err := Root()
		if err != nil {
			return nil, err
		}
		parent := filepath.Join(top, "build", "worlds")
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, err
		}
		if w.Dir, err = os.MkdirTemp(parent, o.Suite.String()+"."); err != nil {
			return nil, err
		}
	}
	os.Chmod(w.Dir, 0o755)
	if err := w.start(debian, suite); err != nil {
		w.Close()
		return nil, err
	}
	if err := w.configure(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// boot is the first process of the machine: it arranges the file systems and
// then reaps orphans until its standard input is closed.
const boot = `
set -e
D=$1; shift
mount --make-rprivate /
mount -t proc proc /proc
echo mail.example.com >/proc/sys/kernel/hostname
[ -z "$MEMORY" ] || mount -t tmpfs -o mode=755 world "$D"
for d in usr etc var; do
	mkdir -p "$D/$d.upper" "$D/$d.work"
	lower=/$d
	for t in "$@"; do [ -d "$t/$d" ] && lower=$t/$d:$lower; done
	mount -t overlay overlay -o "lowerdir=$lower,upperdir=$D/$d.upper,workdir=$D/$d.work" "/$d"
done
mount --bind "$BUILD" /mnt # the suites, also where /tmp or /home hide the repository
mkdir -p "$D/spool" "$D/home" "$D/dev" "$D/mail" "$D/tmp"
chmod 1777 "$D/tmp"
for b in null zero full random urandom tty; do touch "$D/dev/$b"; mount --bind "/dev/$b" "$D/dev/$b"; done
ln -sf /proc/self/fd "$D/dev/fd"; ln -sf /proc/self/fd/0 "$D/dev/stdin"; ln -sf /proc/self/fd/1 "$D/dev/stdout"; ln -sf /proc/self/fd/2 "$D/dev/stderr"
mkdir -p "$D/dev/shm"; chmod 1777 "$D/dev/shm"
mount --rbind "$D/dev" /dev
mount --bind "$D/home" /home
mkdir -p /var/spool/postfix /var/lib/postfix /var/mail
mount --bind "$D/spool" /var/spool/postfix
mount --bind "$D/mail" /var/mail
mount -t tmpfs -o mode=755 run /run
mount --bind "$D/tmp" /tmp
ip link set lo up
echo ready
while read -r _; do :; done
`

func (w *World) start(debian, suite string) error {
	// Debian's tree lies below ours only for its configuration files: with
	// our suite its programs must not show through.
	trees := append(slices.Clone(w.Options.Layers), debian)
	if w.Options.Suite == Ours {
		conf, err := debianConfig(debian)
		if err != nil {
			return err
		}
		trees = append(slices.Clone(w.Options.Layers), conf, suite)
	}
	w.init = exec.Command("/bin/bash", append([]string{"-c", boot, "world", w.Dir}, trees...)...)
	w.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS, Setsid: true}
	w.init.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "BUILD=" + filepath.Dir(debian)}
	if w.Options.Memory {
		w.init.Env = append(w.init.Env, "MEMORY=yes")
	}
	var errs bytes.Buffer
	w.init.Stderr = &errs
	var err error
	if w.alive, err = w.init.StdinPipe(); err != nil {
		return err
	}
	out, err := w.init.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.init.Start(); err != nil {
		return fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	if n, _ := io.ReadFull(out, make([]byte, len("ready\n"))); n == 0 {
		w.init.Wait()
		w.init = nil
		return fmt.Errorf("%w: %s", ErrUnavailable, strings.TrimSpace(errs.String()))
	}
	if w.netns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", w.init.Process.Pid)); err != nil {
		return err
	}
	return w.collectSyslog()
}

// debianConfig is a tree with Debian's data files only. Test binaries run beside
// each other: whoever is first to have it complete puts it in place.
func debianConfig(debian string) (string, error) {
	dir := debian + ".conf"
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "conf.")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(part)
	script := `set -e; chmod 755 "$2"; mkdir -p "$2/usr/share" "$2/etc"; cp -a "$1/usr/share/postfix" "$2/usr/share/"; cp -a "$1/etc/." "$2/etc/"`
	if out, err := exec.Command("/bin/sh", "-c", script, "conf", debian, part).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy Debian's configuration: %s", out)
	}
	if err := os.Rename(part, dir); err != nil {
		if _, missing := os.Stat(dir); missing != nil {
			return "", err
		}
	}
	return dir, nil
}

// setup turns the bare machine into one on which Debian's package was just
// configured as "Internet Site".
const setup = `
set -e
add() { grep -q "^$2:" "$1" || echo "$2:$3" >>"$1"; }
add /etc/group postfix x:951:
add /etc/group postdrop x:952:
add /etc/group alice x:2001:
add /etc/group bob x:2002:
add /etc/passwd postfix x:951:951::/var/spool/postfix:/usr/sbin/nologin
add /etc/passwd alice x:2001:2001:Alice:/home/alice:/bin/sh
add /etc/passwd bob x:2002:2002:Bob:/home/bob:/bin/sh
for u in alice bob; do mkdir -p /home/$u; chown $u:$u /home/$u; done
chmod 2775 /var/mail; chgrp mail /var/mail
cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
[ -f /etc/postfix/dynamicmaps.cf ] || cp /usr/share/postfix/dynamicmaps.cf /etc/postfix/ 2>/dev/null || :
printf 'postmaster: root\nroot: alice\n' >/etc/aliases; rm -f /etc/aliases.db
echo mail.example.com >/etc/mailname
printf '127.0.0.1 localhost mail.example.com mail\n::1 localhost\n' >/etc/hosts
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >/etc/resolv.conf
chown postfix:postfix /var/lib/postfix
chown root:root /var/spool/postfix; chmod 755 /var/spool/postfix
mkdir -p /var/spool/postfix/etc /var/spool/postfix/pid /var/spool/postfix/dev
cp /etc/services /etc/resolv.conf /etc/hosts /etc/nsswitch.conf /var/spool/postfix/etc/ 2>/dev/null || :
cd /var/spool/postfix
for d in active bounce corrupt defer deferred flush incoming saved hold trace private; do mkdir -p $d; chmod 700 $d; chown postfix:root $d; done
mkdir -p public maildrop; chown postfix:postdrop public maildrop; chmod 2710 public; chmod 1730 maildrop
for p in postdrop postqueue; do [ -f /usr/sbin/$p ] && chgrp postdrop /usr/sbin/$p && chmod 2555 /usr/sbin/$p; done
cat >>/etc/postfix/main.cf <<'.'
compatibility_level = 3.6
myhostname = mail.example.com
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
myorigin = /etc/mailname
mydestination = $myhostname, mail.example.com, localhost.example.com, , localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
.
`

func (w *World) configure() error {
	if r := w.Sh(setup); r.Code != 0 {
		return fmt.Errorf("configure world: %s%s", r.Out, r.Err)
	}
	from := Inside(w.Options.Suite.other())
	if _, err := tree(w.Options.Suite.other()); err != nil && len(w.Options.Swap) > 0 {
		return err
	}
	for _, name := range w.Options.Swap {
		path := program(name)
		r := w.Sh(`set -e; if [ -e "$2" ]; then mode=$(stat -c %a "$2"); group=$(stat -c %g "$2"); else mode=755; group=0; fi
			rm -f "$2"; mkdir -p "${2%/*}"; cp "$1" "$2"; chgrp $group "$2"; chmod $mode "$2"`, from+path, path)
		if r.Code != 0 {
			return fmt.Errorf("swap %s: %s", name, r.Err)
		}
	}
	if w.Options.Suite == Ours && len(w.Options.Swap) > 0 || w.Options.Suite == Debian {
		if err := w.Libraries(); err != nil {
			return err
		}
	}
	if len(w.Options.Main) > 0 {
		if err := w.Set(w.Options.Main...); err != nil {
			return err
		}
	}
	if r := w.Run("", "newaliases"); r.Code != 0 {
		return fmt.Errorf("newaliases: %s", r.Err)
	}
	return nil
}

// Libraries puts Debian's shared libraries where Debian's programs look for
// them. A machine with some of these programs from its start has them.
func (w *World) Libraries() error {
	r := w.Sh(`mkdir -p /usr/lib/postfix; for f in "$1"/usr/lib/postfix/*.so*; do cp -a "$f" /usr/lib/postfix/; done; ls "$1"/usr/lib/x86_64-linux-gnu 2>/dev/null | while read f; do [ -e /usr/lib/x86_64-linux-gnu/$f ] || cp -a "$1/usr/lib/x86_64-linux-gnu/$f" /usr/lib/x86_64-linux-gnu/; done`, Inside(Debian))
	if r.Code != 0 {
		return fmt.Errorf("libraries: %s", r.Err)
	}
	return nil
}

// Set writes settings ("name = value") into main.cf, without postconf; a
// setting of that name that fits on one line is replaced.
func (w *World) Set(settings ...string) error {
	path := w.Path("/etc/postfix/main.cf")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name := func(line string) string {
		before, _, _ := strings.Cut(line, "=")
		return strings.TrimSpace(before)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		replaced := slices.ContainsFunc(settings, func(s string) bool { return name(s) == name(line) })
		if !replaced {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	lines = append(lines, settings...)
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// Path is where a file of the machine is seen from outside. (Unix sockets
// too, if the result stays under 108 bytes.)
func (w *World) Path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", w.init.Process.Pid, name)
}

// Result is what a command did.
type Result struct {
	Out, Err string
	Code     int
}

// Command prepares a command in the machine, as root.
func (w *World) Command(argv ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(w.init.Process.Pid), "-m", "-n", "-p", "-u", "--wdns=/", "--"}
	cmd := exec.Command("nsenter", append(enter, argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "TZ=UTC", "HOME=/root", "LOGNAME=root", "USER=root"}
	return cmd
}

// As prepares a command in the machine as one of its users.
func (w *World) As(user string, argv ...string) *exec.Cmd {
	cmd := w.Command(append([]string{"setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", "--"}, argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "TZ=UTC", "HOME=/home/" + user, "LOGNAME=" + user, "USER=" + user}
	return cmd
}

// Do runs a prepared command to its end.
func Do(cmd *exec.Cmd, stdin string) Result {
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	r := Result{Out: out.String(), Err: errs.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		r.Code, r.Err = -1, r.Err+err.Error()
	}
	return r
}

// Run runs a command as root.
func (w *World) Run(stdin string, argv ...string) Result { return Do(w.Command(argv...), stdin) }

// Sh runs a shell script as root; args are $1, $2 ...
func (w *World) Sh(script string, args ...string) Result {
	return w.Run("", append([]string{"/bin/bash", "-c", script, "sh"}, args...)...)
}

// inside runs f on a thread that is in the machine's network.
func (w *World) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		err := unix.Setns(int(w.netns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Dial connects to a numeric address in the machine's network.
func (w *World) Dial(network, address string) (conn net.Conn, err error) {
	err = w.inside(func() (err error) {
		conn, err = net.DialTimeout(network, address, 10*time.Second)
		return
	})
	return
}

// Listen listens on a numeric address in the machine's network.
func (w *World) Listen(network, address string) (l net.Listener, err error) {
	err = w.inside(func() (err error) {
		l, err = net.Listen(network, address)
		return
	})
	return
}

// ListenPacket is Listen for datagrams.
func (w *World) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = w.inside(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return
	})
	return
}

func (w *World) collectSyslog() error {
	var err error
	w.syslog, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.Path("/dev/log"), Net: "unixgram"})
	if err != nil {
		return err
	}
	os.Chmod(w.Path("/dev/log"), 0o666)
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := w.syslog.Read(buffer)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.lines.Write(bytes.TrimRight(buffer[:n], "\n\x00"))
			w.lines.WriteByte('\n')
			w.mu.Unlock()
		}
	}()
	return nil
}

// Syslog is what was logged to /dev/log so far, a record a line, without the
// leading "<priority>".
func (w *World) Syslog() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for line := range strings.Lines(w.lines.String()) {
		if i := strings.IndexByte(line, '>'); strings.HasPrefix(line, "<") && i > 0 {
			line = line[i+1:]
		}
		b.WriteString(line)
	}
	return b.String()
}

// CountLog is how many records with that text were logged.
func (w *World) CountLog(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Count(w.lines.Bytes(), []byte(text))
}

// LogCounter returns a function that tells how often text is in the syslog so
// far; it reads only what is new since its last call.
func (w *World) LogCounter(text string) func() int {
	n, from := 0, 0
	return func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		fresh := w.lines.Bytes()[from:]
		whole := bytes.LastIndexByte(fresh, '\n') + 1
		n += bytes.Count(fresh[:whole], []byte(text))
		from += whole
		return n
	}
}

// WaitLog waits until the syslog has a line with all of the texts.
func (w *World) WaitLog(patience time.Duration, texts ...string) (string, error) {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
	next:
		for line := range strings.Lines(w.Syslog()) {
			for _, t := range texts {
				if !strings.Contains(line, t) {
					continue next
				}
			}
			return line, nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("no log line with %q within %v", texts, patience)
		}
	}
}

// Install puts the other suite's programs over this machine's, as an
// administrator would exchange packages; the mail system must be stopped.
func (w *World) Install(s Suite) error {
	if _, err := tree(s); err != nil {
		return err
	}
	r := w.Sh(`set -e; for d in sbin bin lib/postfix; do
			(cd "$1/usr/$d" && find . \( -type f -o -type l \) | while read f; do mkdir -p "/usr/$d/${f%/*}"; cp -a --remove-destination "$f" "/usr/$d/$f"; done)
		done
		for p in postdrop postqueue; do chgrp postdrop /usr/sbin/$p; chmod 2555 /usr/sbin/$p; done`, Inside(s))
	if r.Code != 0 {
		return fmt.Errorf("install %s: %s", s, r.Err)
	}
	return nil
}

// Start starts the mail system and returns when "postfix start" does.
func (w *World) Start() error {
	if r := w.Run("", "postfix", "start"); r.Code != 0 {
		return fmt.Errorf("postfix start: exit %d: %s%s\n%s", r.Code, r.Out, r.Err, w.Syslog())
	}
	return nil
}

// Stop stops the mail system.
func (w *World) Stop() error {
	if r := w.Run("", "postfix", "stop"); r.Code != 0 {
		return fmt.Errorf("postfix stop: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
	return nil
}

// Close ends the machine and removes its files.
func (w *World) Close() error {
	if w.syslog != nil {
		w.syslog.Close()
	}
	if w.netns != nil {
		w.netns.Close()
	}
	if w.init != nil {
		w.alive.Close()
		w.init.Process.Kill() // the namespace's first process takes all others with it
		w.init.Wait()
	}
	if w.ownDir {
		return os.RemoveAll(w.Dir)
	}
	return nil
}
