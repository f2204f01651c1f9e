package sasl

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// listen makes a Unix socket whose connections are served by f.
func listen(t *testing.T, f func(net.Conn)) string {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return path
}

// warnings collects what would be logged.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) warn(format string, a ...any) {
	w.mu.Lock()
	w.lines = append(w.lines, fmt.Sprintf(format, a...))
	w.mu.Unlock()
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

const hello = "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tX\tprivate\nMECH\tCRAM-MD5\tdictionary\tactive\nMECH\tFS\tforward-secrecy\tmutual-auth\nMECH\tANON\tanonymous\nSPID\t1\nDONE\n"

// dovecotServer answers what the last field of AUTH says.
func dovecotServer(hello string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, hello)
		in := bufio.NewScanner(c)
		for in.Scan() {
			words := strings.Split(in.Text(), "\t")
			if words[0] != "AUTH" && words[0] != "CONT" {
				continue
			}
			data, _ := decode64(strings.TrimPrefix(words[len(words)-1], "resp="))
			switch s := string(data); s {
			case "die":
				return
			case "hang":
			case "lie":
				fmt.Fprintf(c, "OK\t%s9\tuser=evil\nOK\nOK\tx\n\n\t\nCONT\t%s\t!!\n", words[1], words[1])
			case "more":
				fmt.Fprintf(c, "CONT\t%s\teA==\n", words[1])
			case "twice":
				fmt.Fprintf(c, "OK\t%s\tuser=a\nOK\t%s\tuser=b\n", words[1], words[1])
			case "no":
				fmt.Fprintf(c, "FAIL\t%s\tuser=u\treason=because\n", words[1])
			default:
				fmt.Fprintf(c, "OK\t%s\tuser=%s\n", words[1], s)
			}
		}
	}
}

func TestDovecot(t *testing.T) {
	b := NewDovecot(listen(t, dovecotServer(hello)))
	b.Timeout = 2 * time.Second
	for _, v := range []struct {
		o    Options
		want string
	}{{0, "PLAIN CRAM-MD5 FS ANON"}, {NoPlaintext, "CRAM-MD5 FS ANON"}, {NoActive, "PLAIN FS ANON"}, {NoDictionary, "PLAIN FS ANON"}, {NoAnonymous, "PLAIN CRAM-MD5 FS"}, {ForwardSecrecy, "FS"}, {MutualAuth | NoPlaintext, "FS"}} {
		if got, err := b.Mechanisms(t.Context(), Peer{Options: v.o}); err != nil || strings.Join(got, " ") != v.want {
			t.Errorf("%v: %v %v", v.o, got, err)
		}
	}
	ask := func(mech, text string) (Exchange, Outcome) {
		initial := text
		if !strings.HasPrefix(text, "!") {
			initial = Encode([]byte(text))
		}
		return b.Start(t.Context(), Request{Mechanism: mech, Initial: &initial, Peer: Peer{ServerAddr: "127.0.0.1"}})
	}
	for _, v := range []struct {
		mech, text string
		want       Outcome
	}{
		{"plain", "joe", Outcome{OK, "", "joe"}},
		{"PLAIN", "no", Outcome{Failed, "because", "u"}},
		{"PLAIN", "lie", Outcome{Failed, reasonBackend, ""}},
		{"PLAIN", "hang", Outcome{Temporary, reasonLost, ""}},
		{"PLAIN", "die", Outcome{Temporary, reasonLost, ""}},
		{"PLAIN", "twice", Outcome{OK, "", "a"}},
		{"X", "joe", Outcome{Failed, reasonMechanism, ""}},
		{"PLAIN", "!\n", Outcome{Failed, reasonBadInitial, ""}},
		{"PLAIN", "jim", Outcome{OK, "", "jim"}},
	} {
		if _, out := ask(v.mech, v.text); out != v.want {
			t.Errorf("%s %q: %+v", v.mech, v.text, out)
		}
	}
	x, out := ask("PLAIN", "more")
	if out.Status != Challenge || out.Text != "eA==" {
		t.Fatal(out)
	}
	if out := x.Next(t.Context(), "a\tb"); out.Text != reasonBadContinue {
		t.Error(out)
	}
	x, _ = ask("PLAIN", "more")
	if out := x.Next(t.Context(), Encode([]byte("die"))); out != (Outcome{Temporary, reasonLost, ""}) {
		t.Error(out)
	}
	x, _ = ask("PLAIN", "more")
	if out := x.Next(t.Context(), Encode([]byte("bob"))); out.User != "bob" {
		t.Error(out)
	}
}

// Many dialogues share the connection, and each gets its own answers.
func TestDovecotShared(t *testing.T) {
	var connections atomic.Int32
	b := NewDovecot(listen(t, func(c net.Conn) { connections.Add(1); dovecotServer(hello)(c) }))
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			more, name := Encode([]byte("more")), fmt.Sprint("user", i)
			x, out := b.Start(t.Context(), Request{Mechanism: "PLAIN", Initial: &more})
			if out.Status == Challenge {
				out = x.Next(t.Context(), Encode([]byte(name)))
			}
			if out.User != name {
				t.Errorf("%d: %+v", i, out)
			}
		}()
	}
	wg.Wait()
	if n := connections.Load(); n != 1 {
		t.Error(n, "connections")
	}
}

func TestDovecotHandshake(t *testing.T) {
	for _, v := range []struct{ hello, warning string }{
		{"VERSION\tx\n", "SASL: Protocol version error"},
		{"VERSION\n", "SASL: Protocol version error"},
		{"VERSION\t2\t0\n", "SASL: Protocol version mismatch (2 vs. 1)"},
		{"VERSION\t1\t0\nSPID\t1\n", "SASL: Connected to wrong auth socket (auth-master instead of auth-client)"},
		{"MECH\n", "SASL: Protocol error"},
		{"MECH\ta b\n", "SASL: Protocol error"},
		{strings.Repeat("x", 10000), "SASL: Protocol error"},
		{"VERSION\t1\t0\n", "SASL: Couldn't read handshake: Connection timed out"},
	} {
		var w warnings
		b := NewDovecot(listen(t, dovecotServer(v.hello)))
		b.Timeout, b.Warn = 200*time.Millisecond, w.warn
		_, out := b.Start(t.Context(), Request{Mechanism: "PLAIN"})
		if out != (Outcome{Temporary, reasonNoConnect, ""}) || w.String() != v.warning {
			t.Errorf("%.20q: %+v %q", v.hello, out, w.String())
		}
	}
	var w warnings
	b := NewDovecot("/nonexistent/socket")
	b.Warn = w.warn
	if names, err := b.Mechanisms(t.Context(), Peer{}); names != nil || err != nil || w.String() != "SASL: Connect to Dovecot auth socket '/nonexistent/socket' failed: No such file or directory" {
		t.Error(names, err, w.String())
	}
}

func TestSaslauthd(t *testing.T) {
	requests, answers := make(chan string, 1), make(chan string, 1)
	path := listen(t, func(c net.Conn) {
		buf := make([]byte, 1000)
		n, _ := c.Read(buf)
		requests <- string(buf[:n])
		answer := <-answers
		if answer == "hang" {
			c.Read(buf)
		}
		io.WriteString(c, answer)
	})
	for _, v := range []struct {
		answer, warning string
		want            Outcome
	}{
		{"\x00\x02OK", "", Outcome{OK, "", "user@example.com"}},
		{"\x00\x08OK extra", "", Outcome{OK, "", "user@example.com"}},
		{"\x00\x02NO", "Password verification failed", Outcome{Failed, "authentication failure", "user@example.com"}},
		{"\x00", "size read failed", Outcome{Temporary, "generic failure", "user@example.com"}},
		{"\x00\x01O", "bad response from saslauthd", Outcome{Temporary, "generic failure", "user@example.com"}},
		{"\xff\xffO", "bad response from saslauthd", Outcome{Temporary, "generic failure", "user@example.com"}},
		{"\x00\x09O", "read failed", Outcome{Temporary, "generic failure", "user@example.com"}},
		{"hang", "size read failed", Outcome{Temporary, "generic failure", "user@example.com"}},
	} {
		answers <- v.answer
		var w warnings
		b := NewCyrus(map[string]string{"pwcheck_method": "saslauthd", "saslauthd_path": path})
		b.Warn, b.Timeout = w.warn, 200*time.Millisecond
		out := converse(t, b, newPlain(nil, Credentials{User: "user@example.com", Password: "good"}))
		if out != v.want || !strings.Contains(w.String(), v.warning) {
			t.Errorf("%q: %+v %s", v.answer, out, w.String())
		}
		if want := "\x00\x04user\x00\x04good\x00\x04smtp\x00\x0bexample.com"; <-requests != want {
			t.Error("not the request that was wanted")
		}
		if strings.Contains(w.String(), "good") {
			t.Error("the password is in the log")
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := ParseConfig(strings.NewReader("# x\n\n Mech_List: PLAIN  LOGIN \npwcheck_method:saslauthd\npwcheck_method: auxprop\n"))
	if err != nil || c["mech_list"] != "PLAIN  LOGIN" || c["pwcheck_method"] != "saslauthd" {
		t.Error(c, err)
	}
	for _, bad := range []string{"garbage\n", "a b: c\n", ": x\n", "a:\n"} {
		if _, err := ParseConfig(strings.NewReader(bad)); err != ErrConfig {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if c, err := LoadConfig("/nonexistent:/neither", "smtpd"); c != nil || err != nil {
		t.Error(c, err)
	}
}

func TestCyrusMechanisms(t *testing.T) {
	for _, v := range []struct {
		list    string
		o       Options
		want    string
		problem error
	}{
		{"plain CRAM-MD5 NONESUCH XOAUTH2", 0, "PLAIN CRAM-MD5", nil},
		{"PLAIN", NoPlaintext, "", errNoApplicable},
		{"GSSAPI", 0, "", errNoMechanism},
		{"ANONYMOUS LOGIN", NoAnonymous, "LOGIN", nil},
	} {
		b := NewCyrus(map[string]string{"mech_list": v.list})
		got, err := b.Mechanisms(t.Context(), Peer{Options: v.o})
		if strings.Join(got, " ") != v.want || err != v.problem {
			t.Errorf("%s: %v %v", v.list, got, err)
		}
	}
}

func FuzzDovecot(f *testing.F) {
	f.Add("VERSION\t1\t1")
	f.Add("MECH\tPLAIN\tplaintext")
	f.Add("OK\t1\tuser=joe")
	f.Add("CONT\t4294967295\teA==")
	f.Fuzz(func(t *testing.T, line string) {
		var h dovecotHandshake
		if h.line(line) == nil {
			for _, m := range h.mechanisms {
				if m.name == "" || strings.ContainsAny(m.name, " \r\n\t") {
					t.Errorf("mechanism %q", m.name)
				}
			}
		}
		if _, r, ok := parseDovecot(line); ok && r.verb != "OK" && r.verb != "CONT" && r.verb != "FAIL" {
			t.Errorf("%q", r.verb)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("mech_list: PLAIN\n# x\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseConfig(strings.NewReader(s))
		for name, value := range c {
			if err == nil && (name != strings.ToLower(name) || value == "") {
				t.Errorf("%q %q", name, value)
			}
		}
	})
}
