package scache

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
)

// bench is a daemon with one client.
type bench struct {
	*daemon
	t    *testing.T
	log  *maillog.Buffer
	conn *net.UnixConn
	in   *attr.Reader
	done chan error
}

type noTurns struct{ *net.UnixConn }

func (noTurns) Taken()     {}
func (noTurns) Available() {}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return conns[0], conns[1]
}

func newBench(t *testing.T) *bench {
	logger, log := maillog.Capture()
	b := &bench{t: t, log: log, done: make(chan error, 1), daemon: &daemon{log: logger, cache: newCache(time.Now()), ttlLimit: 2}}
	b.connect()
	t.Cleanup(b.cache.close)
	return b
}

func (b *bench) connect() {
	client, server := pair(b.t)
	b.conn, b.in = client, attr.NewReader(client, attr.Null, "scache")
	client.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		err := b.serve(b.t.Context(), noTurns{server}, server)
		server.Close()
		b.done <- err
	}()
	if err := attr.Expect(b.in, Protocol); err != nil {
		b.t.Fatal(err)
	}
}

// ask sends a request, "|" for NUL, and returns the values of the reply.
func (b *bench) ask(request string) string {
	b.t.Helper()
	io.WriteString(b.conn, strings.ReplaceAll(request, "|", "\x00"))
	list, err := b.in.List()
	if err != nil {
		b.t.Fatal(request, err)
	}
	var text []string
	for _, a := range list {
		text = append(text, a.Value)
	}
	return strings.Join(text, "|")
}

// save stores one end of a new connection and returns the other.
func (b *bench) save(label, property string, ttl int) *net.UnixConn {
	b.t.Helper()
	if got := b.ask(fmt.Sprintf("request|save_endp|ttl|%d|label|%s|property|%s||", ttl, label, property)); got != "" {
		b.t.Fatalf("instead of dummy: %q", got)
	}
	mine, theirs := pair(b.t)
	f, _ := theirs.File()
	if err := fdpass.Send(b.conn, int(f.Fd())); err != nil {
		b.t.Fatal(err)
	}
	f.Close()
	theirs.Close()
	if got := b.ask(""); got != "0" {
		b.t.Fatalf("save_endp: %q", got)
	}
	return mine
}

// find asks for a session and takes it if there is one.
func (b *bench) find(request string) (string, *os.File) {
	b.t.Helper()
	got := b.ask(request)
	if !strings.HasPrefix(got, "0|") {
		return got, nil
	}
	io.WriteString(b.conn, "dummy\x00\x00\x00")
	f, err := fdpass.Recv(b.conn)
	if err != nil {
		b.t.Fatal(err)
	}
	io.WriteString(b.conn, "dummy\x00\x00\x00")
	b.t.Cleanup(func() { f.Close() })
	return got, f
}

func TestEndpoint(t *testing.T) {
	b := newBench(t)
	peer := b.save("e1", "p1", 2)
	got, f := b.find("request|find_endp|label|e1||")
	if got != "0|p1" {
		t.Fatal(got)
	}
	io.WriteString(peer, "hi")
	text := make([]byte, 10)
	if n, err := f.Read(text); string(text[:n]) != "hi" || err != nil {
		t.Error(string(text[:n]), err)
	}
	if got, _ := b.find("request|find_endp|label|e1||"); got != "2|" {
		t.Error("a session was found twice:", got)
	}
}

// As observed with Debian's daemon: sessions are found in the order in which
// they were stored, destinations lead to the first endpoint that has one.
func TestDestination(t *testing.T) {
	b := newBench(t)
	b.save("e1", "p1", 2)
	b.save("e1", "p2", 2)
	save := func(property, endpoint string) {
		if got := b.ask("request|save_dest|ttl|2|label|d1|property|" + property + "|label|" + endpoint + "||"); got != "0" {
			t.Fatal(got)
		}
	}
	want := func(reply string) {
		t.Helper()
		if got, _ := b.find("request|find_dest|label|d1||"); got != reply {
			t.Errorf("find_dest: %q, want %q", got, reply)
		}
	}
	want("2||")
	save("dp1", "e1")
	want("0|dp1|p1")
	want("0|dp1|p2")
	want("2||")
	save("dp1", "e1")
	save("dp1b", "e1")
	save("dp2", "e2")
	b.save("e2", "q2", 2)
	want("0|dp2|q2")
	b.save("e1", "x1", 2)
	want("0|dp1|x1")
	want("2||")
	b.statistics()
	if got := b.log.Lines(); !slices.Contains(got, "statistics: domain lookup hits=4 miss=3 success=57%") ||
		!slices.Contains(got, "statistics: max simultaneous domains=1 addresses=1 connection=2") {
		t.Errorf("%q", got)
	}
}

// A session is closed at the end of its time, which the daemon limits.
func TestExpiry(t *testing.T) {
	b := newBench(t)
	b.ttlLimit = 1
	peer := b.save("e1", "p1", 100)
	start := time.Now()
	peer.SetReadDeadline(start.Add(5 * time.Second))
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF || time.Since(start) < 500*time.Millisecond {
		t.Error(err, time.Since(start))
	}
	if got, _ := b.find("request|find_endp|label|e1||"); got != "2|" {
		t.Error(got)
	}
}

func TestMalformed(t *testing.T) {
	b := newBench(t)
	for _, c := range [][2]string{
		{"request|frob||", "1"},
		{"request|find_endp|lab|x||", "1|"},
		{"request|find_dest|||", "1||"},
		{"request|save_dest|ttl|x|label|d|property|p|label|e||", "1"},
		{"request|save_dest|ttl|2|label|d||", "1"},
		{"request|save_endp|ttl|2|label|x||", "1"},
		{"request|save_endp|ttl|0|label|x|property|y||", "1"},
		{"request|find_endp|label|" + strings.Repeat("x", maxText+1) + "||", "1|"},
		{"foo|bar||request|find_endp|label|none||", "2|"}, // no reply to the first
	} {
		if got := b.ask(c[0]); got != c[1] {
			t.Errorf("%.60q: %q, want %q", c[0], got, c[1])
		}
	}
	b.ask("request|save_endp|ttl|2|label|x|property|y||")
	b.conn.Write([]byte{0})
	if got := b.ask(""); got != "2" {
		t.Error("no descriptor:", got)
	}
	// A client that goes away with a session half taken loses it for all.
	peer := b.save("e1", "p1", 2)
	b.ask("request|find_endp|label|e1||")
	b.conn.Close()
	<-b.done
	peer.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	c := newCache(time.Now())
	defer c.close()
	for i := range maxDestinations + 5 {
		c.saveDestination(time.Minute, fmt.Sprint(i), "p", "e")
	}
	if len(c.known) != maxDestinations || len(c.destinations) != maxDestinations {
		t.Error(len(c.known), len(c.destinations))
	}
}

// FuzzRequest sends anything; the daemon must end the connection.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("request\x00find_dest\x00label\x00x\x00\x00"))
	f.Add([]byte("request\x00save_endp\x00ttl\x002\x00label\x00x\x00property\x00y\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench(t)
		go io.Copy(io.Discard, b.conn)
		b.conn.Write(data)
		b.conn.CloseWrite()
		<-b.done
	})
}
