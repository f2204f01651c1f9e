package command

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestEnvironment(t *testing.T) {
	have := map[string]string{"TZ": "Europe/Berlin", "LANG": "", "SECRET": "x"}
	lookup := func(name string) (string, bool) { v, ok := have[name]; return v, ok }
	got := Environment([]string{"TZ", "LANG", "MISSING", "PATH=/bin:/usr/bin", "{ A = b c }", "EMPTY="}, lookup)
	want := []string{"TZ=Europe/Berlin", "LANG=", "PATH=/bin:/usr/bin", "A=b c", "EMPTY="}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReduceEnvironment(t *testing.T) {
	saved := os.Environ()
	t.Cleanup(func() {
		os.Clearenv()
		for _, e := range saved {
			name, value, _ := strings.Cut(e, "=")
			os.Setenv(name, value)
		}
	})
	os.Setenv("KEPT", "1")
	os.Setenv("LD_PRELOAD_LIKE", "evil")
	reduceEnvironment([]string{"KEPT", "SET=2"})
	if got, want := os.Environ(), []string{"KEPT=1", "SET=2"}; !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
}

func TestLookupTakesTheLast(t *testing.T) {
	e := Env{Environ: []string{"A=1", "AB=2", "A=3"}}
	if v, ok := e.Lookup("A"); v != "3" || !ok {
		t.Errorf("A is %q, %v", v, ok)
	}
	if _, ok := e.Lookup("B"); ok {
		t.Error("B is set")
	}
}

// program makes a Program with a configuration of its own.
func program(t *testing.T, mainCF string) (p *Program, dir string, stderr *bytes.Buffer) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte("compatibility_level = 3.6\nmyhostname = host.example\nmail_owner = daemon\nsetgid_group = mail\n"+mainCF), 0o644); err != nil {
		t.Fatal(err)
	}
	stderr = &bytes.Buffer{}
	p = &Program{Name: "postsomething", Env: Env{Stderr: stderr}}
	p.OpenLog()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chdir(wd) })
	return p, dir, stderr
}

func TestEnterQueue(t *testing.T) {
	spool := t.TempDir()
	p, dir, _ := program(t, "queue_directory = "+spool+"\n")
	c, err := p.EnterQueue(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	if wd, _ := os.Getwd(); wd != spool {
		t.Errorf("in %s, want %s", wd, spool)
	}
	if c.String("process_name") != p.Name || p.Log.Verbose() != 2 {
		t.Errorf("process_name %q, verbose %d", c.String("process_name"), p.Log.Verbose())
	}
}

func TestEnterQueueFails(t *testing.T) {
	for _, x := range []struct{ mainCF, want string }{
		{"queue_directory = /nonexistent\n", "chdir /nonexistent: No such file or directory"},
		{"syslog_facility = nosuch\n", "parameter syslog_facility: unrecognized value: nosuch"},
		{"maillog_file = /etc/mail.log\n", "maillog_file value '/etc/mail.log' does not match any prefix in maillog_file_prefixes"},
	} {
		p, dir, _ := program(t, x.mainCF)
		if _, err := p.EnterQueue(dir, 0); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: %v, want %q", x.mainCF, err, x.want)
		}
	}
}

func TestFail(t *testing.T) {
	for _, x := range []struct {
		exit, status int
		tag, want    string
	}{{0, 1, "", "postsomething: fatal: no\n"}, {75, 75, "mailq", "mailq: fatal: no\n"}} {
		var stderr bytes.Buffer
		p := &Program{Name: "postsomething", StderrTag: x.tag, FatalExit: x.exit, Env: Env{Stderr: &stderr}}
		p.OpenLog()
		if got := p.Fail(errors.New("no")); got != x.status || stderr.String() != x.want {
			t.Errorf("status %d, %q; want %d, %q", got, stderr.String(), x.status, x.want)
		}
	}
}

func TestOnSignal(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	got := make(chan syscall.Signal, 2)
	stop := OnSignal(func(s syscall.Signal) { got <- s })
	defer stop()
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	if s := <-got; s != syscall.SIGTERM {
		t.Errorf("caught %v, want only SIGTERM", s)
	}
}
