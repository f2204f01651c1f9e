package handbook

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/test/world"
)

// patience is how long something expected may take on a busy machine.
const patience = 20 * time.Second

// commandLimit is after how many seconds a typed command is ended; its exit
// status is 124 then.
const commandLimit = "30"

// machine is a world in which a scenario runs, with a network outside of it.
type machine struct {
	*world.World
	names   names
	servers map[string]*server
	outside *os.File // the network namespace of everybody else
}

// prepare adds what the handbook's machine has beyond package world's: an
// address to the outside, where all of 192.0.2.0/24 and 198.51.100.0/24 is to
// be had, and the users of the components' packages.
const prepare = `
set -e
ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
ip addr add 203.0.113.1/24 dev eth0; ip link set eth0 up; ip route add default via 203.0.113.254
sed -i -E '/^(dovecot|dovenull|opendkim|postgrey|debian-spamd|vmail|list|sasl|fetchmail):/d' /etc/passwd /etc/group
ip netns exec outside sh -c 'ip addr add 203.0.113.254/24 dev eth0; ip link set eth0 up; ip link set lo up
	ip route add local 192.0.2.0/24 dev lo; ip route add local 198.51.100.0/24 dev lo'
mkdir -p /dev/pts; mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts; ln -sf pts/ptmx /dev/ptmx
id=960
for u in dovecot dovenull opendkim postgrey debian-spamd vmail list sasl fetchmail; do
	id=$((id+1))
	echo "$u:x:$id:" >>/etc/group
	echo "$u:x:$id:$id::/var/lib/$u:/usr/sbin/nologin" >>/etc/passwd
done
mkdir -p /var/lib/vmail /var/lib/postgrey /var/lib/spamassassin /run/dovecot /run/opendkim /run/saslauthd /var/lib/misc
chown vmail:vmail /var/lib/vmail; chown postgrey:postgrey /var/lib/postgrey; chown opendkim:opendkim /run/opendkim
chown debian-spamd:debian-spamd /var/lib/spamassassin; chgrp sasl /run/saslauthd
sed -i 's/^sasl:.*:$/&postfix/; s/^\(opendkim:.*:\)$/\1postfix/' /etc/group
`

func newMachine(w *world.World) (*machine, error) {
	if r := w.Sh(prepare); r.Code != 0 {
		return nil, fmt.Errorf("prepare: %s%s", r.Out, r.Err)
	}
	ns, err := os.Open(w.Path("/run/netns/outside"))
	if err != nil {
		return nil, err
	}
	return &machine{World: w, names: names{}, servers: map[string]*server{}, outside: ns}, nil
}

func (m *machine) close() {
	for _, s := range m.servers {
		s.close()
	}
	m.outside.Close()
}

// there runs f on a thread in the network that has an address.
func (m *machine) there(host string, f func() error) error {
	path := m.outside.Name()
	if strings.HasPrefix(host, "127.") || host == "203.0.113.1" {
		path = m.Path("/proc/1/ns/net")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		ns, err := os.Open(path)
		if err == nil {
			defer ns.Close()
			if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
				err = f()
			}
		}
		done <- err
	}()
	return <-done
}

// do is the table of verbs.
var do = map[string]func(*machine, step) error{
	"$": (*machine).typed, "file": (*machine).file, "add": (*machine).file, "dns": (*machine).dns, "log": (*machine).log,
	"mailbox": (*machine).mailbox, "queue": (*machine).queue, "smtp": (*machine).smtp, "server": (*machine).server, "listening": (*machine).listening,
}

func (m *machine) run(steps []step) error {
	for _, s := range steps {
		s.args = m.names.fill(s.args)
		if err := do[s.verb](m, s); err != nil {
			return fmt.Errorf("line %d: %s%s %s: %w", s.line, s.user, s.verb, s.args, err)
		}
	}
	return nil
}

// until asks again and again whether what is there is as expected.
func (m *machine) until(want []string, ordered bool, look func() []string) error {
	pause := 20 * time.Millisecond
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		pause = min(pause*5/4, 300*time.Millisecond)
		got := look()
		missed := m.names.compare(want, got, ordered)
		if missed == "" {
			return nil
		}
		if time.Now().After(end) {
			return unlike(missed, got)
		}
	}
}

func unlike(missed string, got []string) error {
	what := "not found"
	if strings.HasPrefix(missed, "! ") {
		what = "found"
	}
	return fmt.Errorf("%s: %s\nwhat is there:\n%s", what, missed, strings.Join(got, "\n"))
}

// typed runs a command: as root, as a user, from outside, or until its output is
// as expected.
func (m *machine) typed(s step) error {
	if strings.Contains(s.args, "/var/log/mail.log") {
		if err := m.mailLog(); err != nil {
			return err
		}
	}
	command, background := strings.CutSuffix(s.args, " &")
	argv := []string{"/bin/bash", "-c", command}
	if !background {
		argv = append([]string{"timeout", commandLimit}, argv...)
	}
	prepare := func() *exec.Cmd {
		switch s.user {
		case "":
			return m.Command(argv...)
		case "outside":
			return m.Command(append([]string{"nsenter", "--net=/run/netns/outside", "--"}, argv...)...)
		}
		return m.As(s.user, append([]string{"/usr/bin/env", "-C", "/home/" + s.user}, argv...)...)
	}
	if background {
		cmd := prepare()
		return cmd.Start() // the machine's end is its end
	}
	look := func() []string {
		r := world.Do(prepare(), "")
		lines := strings.Split(strings.TrimSuffix(r.Out+r.Err, "\n"), "\n")
		if r.Code != 0 {
			lines = append(lines, fmt.Sprintf("[exit %d]", r.Code))
		}
		return lines
	}
	want := s.block
	if !slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(w, "[exit ") }) {
		want = append(slices.Clone(want), "! [exit ...]")
	}
	if s.again {
		return m.until(want, true, look)
	}
	got := look()
	if missed := m.names.compare(want, got, true); missed != "" {
		return unlike(missed, got)
	}
	return nil
}

// file writes a file: file PATH [MODE [OWNER]]. add appends to it.
func (m *machine) file(s step) error {
	f := strings.Fields(s.args)
	if len(f) == 0 {
		return fmt.Errorf("no path")
	}
	mode, owner := "644", "root:root"
	if len(f) > 1 {
		mode = f[1]
	}
	if len(f) > 2 {
		owner = f[2]
	}
	script := `mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1" && chown "$3" "$1"`
	if s.verb == "add" {
		script = `cat >>"$1"`
	}
	r := m.Run(m.names.fill(strings.Join(s.block, "\n"))+"\n", "/bin/sh", "-c", script, "sh", f[0], mode, owner)
	if r.Code != 0 {
		return fmt.Errorf("%s", r.Err)
	}
	return nil
}

// dns starts the name server with these records, in dnsmasq's words.
func (m *machine) dns(s step) error {
	const fixed = "no-resolv\nno-hosts\nno-daemon\nlocal-ttl=60\nlocal=/#/\nlisten-address=127.0.0.1\nbind-interfaces\nuser=root\npid-file\n"
	m.Sh(`[ -f /run/dns.pid ] && kill $(cat /run/dns.pid)`)
	r := m.Run(fixed+strings.Join(s.block, "\n")+"\n", "/bin/sh", "-c", "cat >/etc/dnsmasq.conf; mkdir -p /etc/dnsmasq.d; dnsmasq --test -C /etc/dnsmasq.conf")
	if r.Code != 0 {
		return fmt.Errorf("dnsmasq: %s", r.Err)
	}
	if err := m.Command("/bin/sh", "-c", "echo $$ >/run/dns.pid; exec dnsmasq -C /etc/dnsmasq.conf").Start(); err != nil {
		return err
	}
	return m.listening(step{args: "127.0.0.1:53"})
}

// listening waits until somebody listens: HOST:PORT or the path of a socket.
func (m *machine) listening(s step) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := m.there("127.0.0.1", func() error {
			network, address := "tcp", s.args
			if strings.HasPrefix(address, "/") {
				info, err := os.Stat(m.Path(address))
				if err == nil && info.Mode()&os.ModeSocket == 0 {
					err = fmt.Errorf("not a socket")
				}
				return err
			}
			conn, err := net.DialTimeout(network, address, time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

var logHead = regexp.MustCompile(`^[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d (\S+?)(\[\d+\])?: `)

// log expects records: "postfix/smtpd: text", in any order.
func (m *machine) log(s step) error {
	return m.until(s.block, false, func() []string {
		lines := strings.Split(m.Syslog(), "\n")
		for i, line := range lines {
			lines[i] = logHead.ReplaceAllString(line, "$1: ")
		}
		return lines
	})
}

// mailLog writes /var/log/mail.log as a syslog daemon does, with the host's name.
func (m *machine) mailLog() error {
	var b strings.Builder
	for line := range strings.Lines(m.Syslog()) {
		if len(line) > 16 {
			b.WriteString(line[:16] + "mail " + line[16:])
		}
	}
	return os.WriteFile(m.Path("/var/log/mail.log"), []byte(b.String()), 0o644)
}

// mailbox expects lines in an mbox file (a user's name means the one in
// /var/mail) or in a Maildir (a path that ends with a slash).
func (m *machine) mailbox(s step) error {
	path := s.args
	if !strings.HasPrefix(path, "/") {
		path = "/var/mail/" + path
	}
	return m.until(s.block, true, func() []string {
		files := []string{m.Path(path)}
		if strings.HasSuffix(path, "/") {
			files, _ = filepath.Glob(m.Path(path) + "new/*")
			seen, _ := filepath.Glob(m.Path(path) + "cur/*")
			files = append(files, seen...)
		}
		var b strings.Builder
		for _, f := range files {
			data, _ := os.ReadFile(f)
			b.Write(data)
		}
		return strings.Split(b.String(), "\n")
	})
}

// queue expects lines of mailq's listing; "(empty)" that the queue becomes empty.
func (m *machine) queue(s step) error {
	return m.until(s.block, true, func() []string {
		r := m.Run("", "mailq")
		if r.Out == "Mail queue is empty\n" {
			return nil
		}
		return strings.Split(r.Out+r.Err, "\n")
	})
}
