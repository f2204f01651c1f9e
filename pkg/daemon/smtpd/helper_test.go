package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// helper is the scripted SMTP server of one session: a before-queue content
// filter, say. It answers each command as its rules say and keeps what it was
// sent.
//
// A rule is "WORD = reply"; WORD is a command's name (with ":n" only the n-th
// of that name), BANNER, or "." for the end of content. In a reply "\n"
// begins a further line. Instead of a reply: <close> hangs up, <hang> says
// nothing any more. "CONTENT = <close>" hangs up at the first line of content.
type helper struct {
	mu    sync.Mutex
	rules map[string]string
	seen  []*strings.Builder // a connection each
	wg    sync.WaitGroup
}

var helperDefaults = map[string]string{
	"BANNER": "220 filter ESMTP", "EHLO": "250-filter\n250 XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT", "XFORWARD": "250 2.0.0 Ok",
	"MAIL": "250 2.1.0 Ok", "RCPT": "250 2.1.5 Ok", "DATA": "354 go", ".": "250 2.0.0 filtered", "QUIT": "221 2.0.0 Bye",
}

func newHelper(rules []string) *helper {
	h := &helper{rules: map[string]string{}}
	for k, v := range helperDefaults {
		h.rules[k] = v
	}
	for _, r := range rules {
		if word, reply, ok := strings.Cut(r, " = "); ok {
			h.rules[word] = expandStep(strings.ReplaceAll(reply, `\n`, "\n"))
		}
	}
	return h
}

func (h *helper) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		h.wg.Add(1)
		seen := new(strings.Builder)
		h.mu.Lock()
		h.seen = append(h.seen, seen)
		h.mu.Unlock()
		go func() {
			defer h.wg.Done()
			defer c.Close()
			h.session(c, seen)
		}()
	}
}

func (h *helper) session(c net.Conn, seen *strings.Builder) {
	note := func(line string) {
		h.mu.Lock()
		seen.WriteString("H: " + line + "\n")
		h.mu.Unlock()
	}
	c.SetDeadline(time.Now().Add(15 * time.Second))
	note("<connected>")
	in := bufio.NewReader(c)
	count := map[string]int{}
	answer := func(word string) (string, bool) {
		count[word]++
		reply, ok := h.rules[fmt.Sprintf("%s:%d", word, count[word])]
		if !ok {
			if reply, ok = h.rules[word]; !ok {
				reply = "500 5.5.2 what?"
			}
		}
		switch reply {
		case "<close>":
			return reply, false
		case "<hang>":
			in.ReadString(0)
			return reply, false
		}
		fmt.Fprintf(c, "%s\r\n", strings.ReplaceAll(reply, "\n", "\r\n"))
		return reply, true
	}
	_, ok := answer("BANNER")
	for ok {
		line, err := in.ReadString('\n')
		if err != nil {
			note("<end> " + line)
			return
		}
		note(fmt.Sprintf("%q", line))
		word, _, _ := strings.Cut(strings.TrimRight(strings.ToUpper(line), "\r\n"), " ")
		word, _, _ = strings.Cut(word, "\t")
		var reply string
		if reply, ok = answer(word); !ok {
			return
		}
		if word == "DATA" && strings.HasPrefix(reply, "3") {
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					note("<end> " + line)
					return
				}
				note(fmt.Sprintf("%q", line))
				if line == ".\r\n" {
					break
				}
				if h.rules["CONTENT"] == "<close>" {
					return
				}
			}
			_, ok = answer(".")
		}
	}
}

// transcript waits for sessions to end and tells what was received.
func (h *helper) transcript() string {
	done := make(chan struct{})
	go func() { h.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, line := range h.seen {
		b.WriteString(line.String())
	}
	return b.String()
}
