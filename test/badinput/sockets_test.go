package badinput

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"posthaste/test/world"
)

// garbage is what is sent to every socket.
var garbage = []struct {
	name  string
	bytes string
	wait  time.Duration // before the connection is closed
}{
	{name: "early close"},
	{name: "silence", wait: 200 * time.Millisecond},
	{name: "random bytes", bytes: random(700)},
	{name: "random text", bytes: "GET / HTTP/1.0\r\n\r\n"},
	{name: "half a list", bytes: "request\x00rew"},
	{name: "wrong list", bytes: "bogus\x00value\x00other\x00thing\x00\x00"},
	{name: "empty list", bytes: "\x00"},
	{name: "giant attribute", bytes: "request\x00" + strings.Repeat("A", 300000) + "\x00\x00"},
	{name: "unknown request", bytes: "request\x00nonsense\x00flags\x000\x00\x00"},
}

func random(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return string(b)
}

// lanes are sockets by daemon; those of one lane are tried one after the
// other, because their log lines cannot be told apart.
var lanes = map[string][]string{
	"cleanup":         {"public/cleanup"},
	"qmgr":            {"public/qmgr"},
	"pickup":          {"public/pickup"},
	"showq":           {"public/showq"},
	"flush":           {"public/flush"},
	"trivial-rewrite": {"private/rewrite"},
	"bounce":          {"private/bounce", "private/defer", "private/trace"},
	"proxymap":        {"private/proxymap", "private/proxywrite"},
	"anvil":           {"private/anvil"},
	"smtp":            {"private/smtp"},
	"lmtp":            {"private/lmtp"},
	"local":           {"private/local"},
	"error":           {"private/error", "private/retry"},
	"discard":         {"private/discard"},
}

// socketDiffers are the deliberate differences, by "socket: garbage".
var socketDiffers = differences()

func differences() map[string]string {
	m := map[string]string{}
	because := func(reason, socket string, names ...string) {
		for _, n := range names {
			m[socket+": "+n] = reason
		}
	}
	const gone = "a client that goes away without a request is no news"
	for _, s := range []string{"private/bounce", "private/defer", "private/trace", "public/flush"} {
		because(gone, s, "early close", "silence")
	}
	const silent = "an unusable request ends the connection without a log line: any local process could fill the log"
	because(silent, "private/anvil", "random bytes", "random text", "half a list", "wrong list", "empty list", "giant attribute", "unknown request")
	because(silent, "private/rewrite", "random bytes", "random text", "half a list")
	because("attributes of other names are skipped: the end of the message is what is missing", "public/cleanup", "unknown request")
	because("an unusable request is hung up on, without a status", "public/flush", "random bytes", "random text", "half a list")
	because("attributes of other names are skipped, an empty request gets a status", "public/flush", "wrong list", "empty list")
	for _, s := range []string{"private/proxymap", "private/proxywrite"} {
		because("an unknown request gets status 3 (bad request) and no log line", s, "wrong list", "empty list", "giant attribute", "unknown request")
	}
	return m
}

func socketReasons() map[string]string {
	m := map[string]string{}
	for _, sockets := range lanes {
		for _, s := range sockets {
			for _, g := range garbage {
				key := s + ": " + g.name
				m[key] = socketDiffers[key]
			}
		}
	}
	return m
}

func runSockets(w *world.World, o *observation) {
	var all sync.WaitGroup
	for daemon, sockets := range lanes {
		all.Go(func() {
			for _, socket := range sockets {
				for _, g := range garbage {
					mark := len(w.Syslog())
					answer := poke(w.Path("/var/spool/postfix/"+socket), g.bytes, g.wait)
					time.Sleep(60 * time.Millisecond)
					log := logSince(w, mark, func(line string) bool {
						return strings.Contains(line, "postfix/"+daemon+"[") || strings.Contains(line, "/sbin/"+daemon+" ")
					})
					if socket == "public/showq" {
						answer = answer[:min(len(answer), 35)] // which message comes first is chance
					}
					o.put("socket", socket+": "+g.name, fmt.Sprintf("answer: %.300q\nlog:\n%s", answer, complaint(log)))
				}
			}
		})
	}
	all.Wait()
}

// complaint is log without what differs on purpose: Debian's daemons want
// attributes in a fixed order and name the first that comes out of it, ours
// skip attributes of other names and name the one that is missing; one
// complaint about a broken request is enough.
func complaint(log string) string {
	var words []string
	for line := range strings.Lines(log) {
		switch {
		case strings.Contains(line, "fatal:") || strings.Contains(line, "panic:") || strings.Contains(line, "error:"):
			words = append(words, line)
		case strings.Contains(line, "warning:") && !slices.Contains(words, "warning\n"):
			words = append(words, "warning\n")
		}
	}
	return strings.Join(words, "")
}

// poke sends bytes to a socket and returns what comes back until the other
// side closes or nothing moves for a while.
func poke(path, text string, wait time.Duration) string {
	conn, err := net.DialTimeout("unix", path, 3*time.Second)
	if err != nil {
		return "(connect: " + err.Error() + ")"
	}
	defer conn.Close()
	if text == "" {
		time.Sleep(wait)
		return "" // what it says by itself is seen in the other cases
	}
	conn.SetDeadline(time.Now().Add(2500 * time.Millisecond))
	go func() {
		io.WriteString(conn, text)
		conn.(*net.UnixConn).CloseWrite()
	}()
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return string(answer) + "(timeout)"
	}
	return string(answer)
}
