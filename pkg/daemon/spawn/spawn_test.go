package spawn

import (
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ args, err string }{
		{"user=nobody argv=/bin/true a b=c", ""},
		{"argv=/bin/true", "missing user= attribute"},
		{"user=nobody", "missing argv= attribute"},
		{"user=nosuchuser1 argv=/bin/true", "unknown user name: nosuchuser1"},
		{"user= argv=/bin/true", "unknown user name: "},
		{"user=nobody:nosuchgroup1 foo=bar", "unknown group name: nosuchgroup1"},
		{"foo=bar user=nobody argv=/bin/true", "unknown attribute name: foo=bar"},
	} {
		a, err := parse(strings.Split(c.args, " "))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != c.err {
			t.Errorf("%s: %q, want %q", c.args, text, c.err)
		}
		if c.err == "" && !slices.Equal(a.argv, []string{"/bin/true", "a", "b=c"}) {
			t.Errorf("%q", a.argv)
		}
	}
}

func TestPermitted(t *testing.T) {
	owner := cred.Identity{UID: 951, GID: 951}
	for _, c := range []struct {
		uid, gid int
		err      string
	}{
		{1000, 1000, ""},
		{0, 1000, "request to deliver as root"},
		{951, 1000, "request to deliver as mail system owner"},
		{1000, 0, "request to use privileged group id 0"},
		{1000, 951, "request to use mail system owner group id 951"},
		{-1, 1000, "user must not have user ID -1"},
		{1000, 1<<32 - 1, "user must not have group ID -1"},
	} {
		err := permitted(cred.Identity{UID: c.uid, GID: c.gid}, owner)
		if err == nil && c.err != "" || err != nil && err.Error() != c.err {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// run runs a command on a connection and returns what the client reads.
func run(t *testing.T, d *daemon, send string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := file(server)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := d.start(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(client, send)
	d.report(d.wait(cmd, func() {}))
	server.Close()
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	got, err := io.ReadAll(client)
	if err != nil {
		t.Error(err)
	}
	return string(got)
}

func TestCommand(t *testing.T) {
	logger, log := maillog.Capture()
	d := &daemon{log: logger, argv: []string{"sh", "-c", "read x; echo got $x >&2; env; exit $x"}, env: []string{"PATH=/usr/bin:/bin"}}
	got := run(t, d, "3\n")
	if !strings.HasPrefix(got, "got 3\n") || !strings.Contains(got, "PATH=/usr/bin:/bin\n") || strings.Contains(got, "HOME=") {
		t.Errorf("%q", got)
	}
	if lines := log.Lines(); !slices.Equal(lines, []string{"warning: command sh exit status 3"}) {
		t.Errorf("%q", lines)
	}
}

// The whole process group ends at the time limit.
func TestTimeLimit(t *testing.T) {
	logger, log := maillog.Capture()
	d := &daemon{log: logger, argv: []string{"sh", "-c", "sleep 60; echo no"}, env: []string{"PATH=/usr/bin:/bin"}, limit: 200 * time.Millisecond}
	if os.Getuid() == 0 {
		id, err := cred.Lookup("nobody")
		if err != nil {
			t.Skip("no user nobody")
		}
		id.Groups = []int{id.GID}
		d.id = &id
	}
	start := time.Now()
	if got := run(t, d, ""); got != "" || time.Since(start) > 10*time.Second {
		t.Errorf("%q after %v", got, time.Since(start))
	}
	lines := log.Lines()
	if len(lines) != 2 || !strings.HasSuffix(lines[0], "command time limit exceeded") || lines[1] != "warning: command sh killed by signal 9" {
		t.Errorf("%q", lines)
	}
}

func TestFind(t *testing.T) {
	if _, err := find(""); err == nil {
		t.Error("empty name")
	}
	if _, err := find("no-such-program-1"); err == nil {
		t.Error("found")
	}
	if path, err := find("sh"); err != nil || exec.Command(path, "-c", ":").Run() != nil {
		t.Error(path, err)
	}
}
