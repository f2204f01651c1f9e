package scheduler

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// site is a mail server at an address of its own, with its kind of trouble.
type site struct {
	addr  string        // IPv4 address
	pause time.Duration // before every reply
	mute  bool          // never greets
	busy  bool          // says 450 to every recipient

	mu   sync.Mutex
	done []time.Time // when each message was accepted
	open int         // sessions
	most int
}

// mailbox is an address at the site.
func (s *site) mailbox(i int) string { return fmt.Sprintf("u%d@[%s]", i, s.addr) }

func (s *site) accepted() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.done...)
}

func (s *site) sessions(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	s.most = max(s.most, s.open)
}

// listen starts the site on port 25.
func (s *site) listen(m *machine) {
	m.t.Helper()
	l, err := m.Listen("tcp", s.addr+":25")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
}

func (s *site) serve(c net.Conn) {
	defer c.Close()
	s.sessions(1)
	defer s.sessions(-1)
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	in := bufio.NewScanner(c)
	if s.mute {
		for in.Scan() {
		}
		return
	}
	say := func(text string) {
		time.Sleep(s.pause)
		fmt.Fprintf(c, "%s\r\n", text)
	}
	say("220 site.test ESMTP")
	for in.Scan() {
		switch verb, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); {
		case verb == "DATA" && s.busy:
			say("503 5.5.1 no recipients")
		case verb == "DATA":
			say("354 go on")
			for in.Scan() && in.Text() != "." {
			}
			s.mu.Lock()
			s.done = append(s.done, time.Now())
			s.mu.Unlock()
			say("250 2.0.0 taken")
		case verb == "RCPT" && s.busy:
			say("450 4.2.0 not now")
		case verb == "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("250 2.0.0 fine")
		}
	}
}
