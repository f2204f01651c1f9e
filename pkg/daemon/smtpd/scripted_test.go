package smtpd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// scriptedMilter is a filter that answers by a script and writes down what it
// is told. The script maps an event's command letter, or the letter and its
// number for one occurrence ("R2"), to replies "letter:data|letter", with Go's
// escapes in data; "sleep:700ms" waits; "!close" and "!hang" are what they say, "" is no reply. "O" is "version,actions,events"
// in hexadecimal, with more data after another comma. What the script does not
// mention gets "c".
type scriptedMilter struct {
	l      net.Listener
	script map[string]string

	mu    sync.Mutex
	seen  [][]string // by connection
	conns []net.Conn
}

// lines is what was seen, connection by connection.
func (m *scriptedMilter) lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.seen...)
}

func (m *scriptedMilter) serve() {
	for {
		c, err := m.l.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.conns, m.seen = append(m.conns, c), append(m.seen, nil)
		i := len(m.seen) - 1
		m.mu.Unlock()
		go m.session(c, func(format string, a ...any) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.seen[i] = append(m.seen[i], fmt.Sprintf(format, a...))
		})
	}
}

func (m *scriptedMilter) close() {
	m.l.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		c.Close()
	}
}

func (m *scriptedMilter) session(c net.Conn, note func(format string, a ...any)) {
	defer c.Close()
	in := bufio.NewReader(c)
	count := map[byte]int{}
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			note("closed")
			return
		}
		data := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(in, data); err != nil {
			note("broken: %v", err)
			return
		}
		letter := data[0]
		if letter == 'O' {
			note("O %x", data[1:])
		} else {
			note("%c %q", letter, data[1:])
		}
		count[letter]++
		action, ok := m.script[fmt.Sprintf("%c%d", letter, count[letter])]
		if !ok {
			action, ok = m.script[string(letter)]
		}
		if !ok {
			switch letter {
			case 'D', 'A':
				continue
			case 'Q':
				return
			case 'O':
				action = "6,1ff,0"
			default:
				action = "c"
			}
		}
		if action == "" {
			continue
		}
		if letter == 'O' && !strings.HasPrefix(action, "!") && !strings.HasPrefix(action, "raw:") {
			words := strings.SplitN(action, ",", 4)
			out := []byte{'O'}
			for _, w := range words[:3] {
				n, _ := strconv.ParseUint(w, 16, 32)
				out = binary.BigEndian.AppendUint32(out, uint32(n))
			}
			if len(words) == 4 {
				s, _ := strconv.Unquote(`"` + words[3] + `"`)
				out = append(out, s...)
			}
			sendPacket(c, out)
			continue
		}
		for reply := range strings.SplitSeq(action, "|") {
			switch reply {
			case "!close":
				return
			case "!hang":
				io.Copy(io.Discard, in)
				return
			}
			letter, data, _ := strings.Cut(strings.TrimPrefix(reply, "!"), ":")
			s, err := strconv.Unquote(`"` + data + `"`)
			if err != nil {
				panic(err)
			}
			if letter == "sleep" {
				d, _ := time.ParseDuration(data)
				time.Sleep(d)
				continue
			}
			if letter == "raw" {
				c.Write([]byte(s))
				continue
			}
			sendPacket(c, []byte(letter+s))
		}
	}
}

func sendPacket(w io.Writer, data []byte) {
	w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
}
