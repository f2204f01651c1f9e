// Package durability injects what a mail system must survive: daemons killed
// with -9 while mail passes, and power that fails at a random instant. What
// was answered 250 at the end of data, or accepted by sendmail with exit 0,
// must be in the queue or in the mailbox afterwards (DESIGN §1.1).
package durability

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"posthaste/test/world"
)

// ledger is what clients were promised.
type ledger struct {
	mu       sync.Mutex
	accepted map[string]bool
	retries  int
	closed   bool // later promises do not count
}

func newLedger() *ledger { return &ledger{accepted: map[string]bool{}} }

func (l *ledger) promise(tag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.accepted[tag] = true
	}
}

// close ends the counting of promises: what is answered while the disk fails
// may be the kernel's lie about an fsync in flight.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

func (l *ledger) retried() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retries++
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// lost lists promised tags that the evidence does not contain.
func (l *ledger) lost(evidence map[string]int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []string
	for tag := range l.accepted {
		if evidence[tag] == 0 {
			lost = append(lost, tag)
		}
	}
	return lost
}

// session is a bare SMTP client that knows exactly which reply it has seen.
type session struct {
	conn net.Conn
	r    *bufio.Reader
}

func open(w *world.World) (*session, error) {
	conn, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, r: bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if err := s.expect("220"); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// expect reads a reply, of one line or several.
func (s *session) expect(code string) error {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("got %q, want %s", strings.TrimSpace(line), code)
		}
		if len(line) > 3 && line[3] == ' ' {
			return nil
		}
	}
}

func (s *session) say(code, format string, a ...any) error {
	if _, err := fmt.Fprintf(s.conn, format+"\r\n", a...); err != nil {
		return err
	}
	return s.expect(code)
}

// A road is a way through the mail system: where a message goes, and how.
type road struct {
	sender, rcpt string
	submitted    bool // with sendmail(1), not SMTP
}

// to is the road of a message by SMTP.
func to(rcpt string) road { return road{sender: "a@sender.test", rcpt: rcpt} }

func text(tag, end string) string {
	return strings.ReplaceAll("Subject: "+tag+"\nMessage-ID: <"+tag+"@durability.test>\n\n"+strings.Repeat("some text of no importance\n", 40), "\n", end)
}

// deliver hands one message in; nil means it was promised.
func deliver(w *world.World, tag string, way road) error {
	if way.submitted {
		if r := world.Do(w.As("bob", "sendmail", "-f", way.sender, way.rcpt), text(tag, "\n")); r.Code != 0 {
			return fmt.Errorf("sendmail: exit %d", r.Code)
		}
		return nil
	}
	s, err := open(w)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	for _, step := range []struct{ code, line string }{
		{"250", "HELO client.test"}, {"250", "MAIL FROM:<" + way.sender + ">"}, {"250", "RCPT TO:<" + way.rcpt + ">"}, {"354", "DATA"},
	} {
		if err := s.say(step.code, "%s", step.line); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(s.conn, text(tag, "\r\n")); err != nil {
		return err
	}
	return s.say("250", ".")
}

// sendAll delivers n messages by several clients, on one road after the other,
// each message until it is promised or stop is closed.
func sendAll(w *world.World, l *ledger, prefix string, roads []road, n, clients int, stop <-chan struct{}) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range clients {
		wait.Go(func() {
			for i := range next {
				tag := fmt.Sprintf("%s%05d", prefix, i)
				for deliver(w, tag, roads[i%len(roads)]) != nil {
					l.retried()
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
				l.promise(tag)
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-stop:
		}
		break
	}
	close(next)
	wait.Wait()
}
