package milter

import (
	"bufio"
	"fmt"
	"net"
	"sort"
	"strings"
	"sync"
	"time"
)

// sink is a small SMTP server that keeps what it gets, commands and text.
type sink struct {
	mu   sync.Mutex
	mail []string
	// relay, if set, is told of each message before it is accepted: a content
	// filter that sends it on.
	relay func(commands []string, text string) error
}

func (s *sink) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go s.session(c)
	}
}

func (s *sink) session(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	fmt.Fprintf(c, "220 sink ESMTP\r\n")
	var commands []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch word {
		case "EHLO":
			fmt.Fprintf(c, "250-sink\r\n250-8BITMIME\r\n250-XFORWARD NAME ADDR PROTO HELO PORT IDENT SOURCE\r\n250 DSN\r\n")
			continue
		case "QUIT":
			fmt.Fprintf(c, "221 bye\r\n")
			return
		case "DATA":
			fmt.Fprintf(c, "354 go\r\n")
			text := ""
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text += strings.TrimPrefix(strings.ReplaceAll(line, "\r\n", "\n"), ".")
			}
			if s.relay != nil {
				if err := s.relay(commands, text); err != nil {
					fmt.Fprintf(c, "451 4.3.0 %v\r\n", err)
					return
				}
			}
			s.mu.Lock()
			s.mail = append(s.mail, strings.Join(commands, "\n")+"\n"+text)
			s.mu.Unlock()
			commands = nil
			fmt.Fprintf(c, "250 2.0.0 taken\r\n")
			continue
		}
		commands = append(commands, line)
		fmt.Fprintf(c, "250 2.0.0 ok\r\n")
	}
}

// received waits for n messages and returns them, sorted.
func (s *sink) received(n int, patience time.Duration) []string {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		got := append([]string(nil), s.mail...)
		s.mu.Unlock()
		if len(got) >= n || time.Now().After(end) {
			sort.Strings(got)
			return got
		}
	}
}

// send passes commands and text to an SMTP server.
func send(c net.Conn, commands []string, text string) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	readReply(r)
	for _, line := range append(append([]string{"EHLO filter.example.test"}, commands...), "DATA") {
		fmt.Fprintf(c, "%s\r\n", line)
		if reply := readReply(r); reply == "" || reply[0] != '2' && reply[0] != '3' {
			return fmt.Errorf("%s: %s", line, reply)
		}
	}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	fmt.Fprintf(c, "%s.\r\n", text)
	if reply := readReply(r); reply == "" || reply[0] != '2' {
		return fmt.Errorf("end of data: %s", reply)
	}
	fmt.Fprintf(c, "QUIT\r\n")
	readReply(r)
	return nil
}
