// Package rootless tests what `make run` sets up: the whole suite as one
// ordinary user, in a directory of its own.
package rootless

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// system is a running private mail system.
type system struct {
	dir, user string
	port      int
}

func start(t *testing.T) *system {
	t.Helper()
	top, err := world.Root()
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(top, "build/posthaste")
	if _, err := os.Stat(exe); err != nil {
		t.Skip("SKIP: build/posthaste is missing (run make)")
	}
	s := &system{port: freePort(t)}
	s.dir, err = os.MkdirTemp("/tmp", "rootless.") // a path that nobody can reach, too
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.user = me.Username
	if os.Geteuid() == 0 {
		s.user = "nobody"
		os.Chmod(s.dir, 0o755)
	}
	t.Cleanup(func() {
		s.run("", "postfix", "-c", s.dir+"/run/etc", "stop")
		if t.Failed() {
			log, _ := os.ReadFile(s.dir + "/run/log/mail.log")
			t.Logf("log:\n%s", log)
		}
		os.RemoveAll(s.dir)
	})
	cmd := exec.Command("/bin/sh", filepath.Join(top, "packaging/run.sh"), exe, filepath.Join(s.dir, "run"))
	cmd.Env = append(os.Environ(), fmt.Sprintf("PORT=%d", s.port))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run.sh: %v\n%s", err, out)
	}
	for _, want := range []string{"Subject: hello from posthaste", "It works.", "status=sent (delivered to maildir)", "To stop it:", "mailq"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("make run does not show %q:\n%s", want, out)
		}
	}
	return s
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run runs a command of the suite as its user.
func (s *system) run(stdin string, argv ...string) string {
	if os.Geteuid() == 0 {
		argv = append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, argv...)
	}
	cmd := exec.Command("env", append([]string{"MAIL_CONFIG=" + s.dir + "/run/etc", "PATH=" + s.dir + "/run/sys/usr/sbin:" + s.dir + "/run/sys/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, argv...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

func (s *system) waitLog(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		log, _ := os.ReadFile(s.dir + "/run/log/mail.log")
		if regexp.MustCompile(want).Match(log) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %s in the log:\n%s", want, log)
		}
	}
}

func TestRootless(t *testing.T) {
	s := start(t)
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	for _, step := range []string{"", "HELO me", "MAIL FROM:<a@sender.test>", "RCPT TO:<" + s.user + "@localhost>", "DATA", "Subject: by smtp\r\n\r\nx\r\n."} {
		if step != "" {
			io.WriteString(conn, step+"\r\n")
		}
		if line, err := r.ReadString('\n'); err != nil || line[0] > '3' {
			t.Fatalf("%s: %q %v", step, line, err)
		}
	}
	s.waitLog(t, `to=<`+s.user+`@localhost>.*status=sent \(delivered to maildir\)`)

	if out := s.run("Subject: x\n\ny\n", "sendmail", "-f", s.user, "far@nosuch.invalid"); out != "" {
		t.Fatal(out)
	}
	s.waitLog(t, `to=<far@nosuch.invalid>.*(status=deferred|status=bounced)`)
	if out := s.run("", "postfix", "reload"); strings.Contains(out, "fatal") {
		t.Error(out)
	}
	if out := s.run("", "postfix", "status"); strings.Contains(out, "exit status") {
		t.Error(out)
	}
	if out := s.run("", "postsuper", "-d", "ALL"); strings.Contains(out, "fatal") {
		t.Error(out)
	}
	if out := s.run("", "mailq"); out != "Mail queue is empty\n" {
		t.Error(out)
	}
	if out := s.run("", "postfix", "check"); strings.TrimSpace(out) != "" {
		t.Errorf("postfix check: %s", out)
	}
	// Mail for somebody else cannot be delivered, and says why.
	s.run("Subject: x\n\ny\n", "sendmail", "-f", s.user, "root+x@localhost", "daemon@localhost")
	s.waitLog(t, `to=<daemon@localhost>.*status=bounced`)
	log, _ := os.ReadFile(s.dir + "/run/log/mail.log")
	if bad := regexp.MustCompile(`(?m)^.*(panic|fatal): .*$`).FindString(string(log)); bad != "" {
		t.Error(bad)
	}
}
