package postscreen

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/test/world"
)

// row is a service with settings of its own, and the dialogues played with it.
type row struct {
	name      string
	port      int
	settings  []string
	scenarios []*scenario
}

// scenario is a dialogue of one client address with one row (testdata/scenarios.txt).
type scenario struct {
	name, from, seed string
	steps            []string
}

// readScenarios reads the file: "== row", settings, "-- scenario", steps.
func readScenarios(t testing.TB, path string) []*row {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows []*row
	n := 0
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "" || strings.HasPrefix(word, "#"):
		case word == "==":
			rows = append(rows, &row{name: rest, port: 20001 + len(rows)})
		case word == "--":
			n++
			r := rows[len(rows)-1]
			r.scenarios = append(r.scenarios, &scenario{name: rest, from: fmt.Sprintf("127.1.%d.%d", n/200, 10+n%200)})
		case len(rows[len(rows)-1].scenarios) == 0:
			r := rows[len(rows)-1]
			r.settings = append(r.settings, strings.TrimSpace(line))
		default:
			list := rows[len(rows)-1].scenarios
			s := list[len(list)-1]
			switch word {
			case "seed":
				s.seed = rest
			case "from":
				s.from = rest
			default:
				s.steps = append(s.steps, strings.TrimSpace(line))
			}
		}
	}
	return rows
}

// player plays a scenario.
type player struct {
	w     *world.World
	row   *row
	s     *scenario
	conns map[string]*peerConn
	now   string // name of the connection in use
	said  []string
}

type peerConn struct {
	net.Conn
	in *bufio.Reader
}

func (p *player) say(format string, a ...any) { p.said = append(p.said, fmt.Sprintf(format, a...)) }

// patience is how long a client waits for a reply.
const patience = 8 * time.Second

func (p *player) open(name string) error {
	address := fmt.Sprintf("127.0.0.1:%d", p.row.port)
	if strings.Contains(p.s.from, ":") {
		address = fmt.Sprintf("[::1]:%d", p.row.port)
	}
	c, err := p.w.DialFrom(p.s.from, "tcp", address)
	if err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(patience))
	p.conns[name], p.now = &peerConn{c, bufio.NewReader(c)}, name
	return nil
}

// play plays all steps and gives what the client saw.
func (p *player) play() []string {
	p.conns = map[string]*peerConn{}
	if len(p.s.steps) == 0 || !strings.HasPrefix(p.s.steps[0], "open") {
		if err := p.open("a"); err != nil {
			return []string{err.Error()}
		}
	}
	for _, step := range p.s.steps {
		word, rest, _ := strings.Cut(step, " ")
		if err := p.step(word, rest); err != nil {
			p.say("%s: %s", step, reason(err))
		}
	}
	for _, c := range p.conns {
		c.Close()
	}
	return p.said
}

// reason is an error without addresses.
func reason(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET): // with unread input it depends on who is faster
		return "EOF"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	text := err.Error()
	return text[strings.LastIndex(text, ": ")+1:]
}

func (p *player) step(word, rest string) error {
	c := p.conns[p.now]
	switch word {
	case "open":
		return p.open(rest)
	case "use":
		p.now = rest
	case ">":
		_, err := io.WriteString(c, rest+"\r\n")
		return err
	case ">>":
		raw, err := strconv.Unquote(rest)
		if err == nil {
			_, err = io.WriteString(c, raw)
		}
		return err
	case "many": // many N TEXT
		count, text, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(count)
		if err == nil {
			_, err = io.WriteString(c, strings.Repeat(text, n))
		}
		return err
	case "<":
		return p.reply(c)
	case "<eof":
		for {
			if err := p.reply(c); err != nil {
				return err
			}
		}
	case "sleep":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return err
	case "close":
		return c.Close()
	case "tls":
		tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
		if err := tc.Handshake(); err != nil {
			return err
		}
		p.conns[p.now] = &peerConn{tc, bufio.NewReader(tc)}
	default:
		return errors.New("unknown step")
	}
	return nil
}

// reply reads one reply, or one line of a greeting that goes on later.
func (p *player) reply(c *peerConn) error {
	for {
		line, err := c.in.ReadString('\n')
		if line != "" {
			p.say("%s", line)
		}
		if err != nil {
			return err
		}
		if len(line) < 4 || line[3] != '-' || strings.HasPrefix(line, "220-") {
			return nil
		}
	}
}
