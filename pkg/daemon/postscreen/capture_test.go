package postscreen

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// TestTLSRequest compares what tlsproxy is asked.
func TestTLSRequest(t *testing.T) {
	t.Parallel()
	var asked [2]string
	for i, suite := range []world.Suite{world.Debian, world.Ours} {
		rows := []*row{{name: "fake", port: 20001, settings: []string{"tlsproxy_service_name = fake", "postscreen_pipelining_enable = yes",
			"postscreen_command_time_limit = 123s", "smtpd_starttls_timeout = 77s", "postscreen_greet_banner ="}}}
		w := screens(t, world.Options{Suite: suite}, rows)
		path := w.Path("/var/spool/postfix/private/fake")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		os.Chmod(path, 0o666)
		got := make(chan string, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			c.Write([]byte("protocol\x00tlsproxy_protocol\x00\x00"))
			c.SetDeadline(time.Now().Add(3 * time.Second))
			buf := make([]byte, 1000)
			n, _ := c.Read(buf)
			got <- string(buf[:n])
			c.Write([]byte("status\x000\x00\x00"))
		}()
		c, err := w.DialFrom("127.9.0.1", "tcp", "127.0.0.1:20001")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte("STARTTLS\r\n"))
		select {
		case text := <-got:
			asked[i] = mask(strings.ReplaceAll(text, "\x00", "|"))
		case <-time.After(5 * time.Second):
			t.Fatal("tlsproxy was not asked")
		}
		buf := make([]byte, 1000)
		time.Sleep(300 * time.Millisecond)
		n, _ := c.Read(buf)
		asked[i] += "\n" + string(buf[:n]) + "\n"
		for line := range strings.Lines(w.Syslog()) {
			if strings.Contains(line, "fake/postscreen") && strings.Contains(line, "warning") {
				asked[i] += line[strings.Index(line, "warning"):]
			}
		}
		w.Stop()
	}
	if asked[0] != asked[1] {
		t.Errorf("ours:\n%s\nDebian's:\n%s", asked[1], asked[0])
	}
}
