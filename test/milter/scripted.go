// Package milter holds the end-to-end tests of mail filters: the same mail
// passes Debian's suite, ours, and mixtures of the two, before the same
// scripted Milter or content filter, and what the filter saw, the queue file,
// the log and the delivered message are compared.
package milter

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// script says what a filter answers: for each command byte the packets, code
// byte first, after which a "c" follows unless the last one ends the event.
// A packet "SLEEP" makes it hang, "CLOSE" makes it hang up.
type script struct {
	replies map[byte][]string
	events  uint32 // steps the filter opts out of
	macros  string // appended to the negotiation
	version uint32 // 0 is 6
	actions uint32 // 0 is all
}

// scripted is a Milter that does what its script for the moment says, and
// keeps what it is told.
type scripted struct {
	mu    sync.Mutex
	now   script
	heard []string
}

// play sets the script of the next message.
func (f *scripted) play(s script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.heard = s, nil
}

// transcript is what was heard since play.
func (f *scripted) transcript() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.heard...)
}

// serve answers connections until the listener is closed.
func (f *scripted) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go f.session(c)
	}
}

func (f *scripted) session(c net.Conn) {
	defer c.Close()
	for {
		c.SetDeadline(time.Now().Add(60 * time.Second))
		code, data, err := readPacket(c)
		if err != nil {
			return
		}
		f.mu.Lock()
		s := f.now
		f.heard = append(f.heard, fmt.Sprintf("%c %q", code, data))
		f.mu.Unlock()
		switch code {
		case 'D', 'A':
			continue
		case 'Q':
			return
		case 'O':
			if s.version == 0 {
				s.version = 6
			}
			if s.actions == 0 {
				s.actions = 0x1ff
			}
			b := binary.BigEndian.AppendUint32([]byte{'O'}, s.version)
			b = binary.BigEndian.AppendUint32(b, s.actions)
			b = binary.BigEndian.AppendUint32(b, s.events)
			writePacket(c, string(b)+s.macros)
			continue
		}
		if !f.answer(c, s.replies[code]) {
			return
		}
	}
}

// answer sends the packets of one event; false hangs up.
func (f *scripted) answer(c net.Conn, packets []string) bool {
	final := false
	for _, p := range packets {
		switch p {
		case "SLEEP":
			io.ReadFull(c, make([]byte, 1))
			return false
		case "CLOSE":
			return false
		}
		writePacket(c, p)
		final = strings.IndexByte("cadrty4sR", p[0]) >= 0
	}
	if !final {
		writePacket(c, "c")
	}
	return true
}

func readPacket(r io.Reader) (byte, []byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	if _, err := io.ReadFull(r, b); err != nil || len(b) == 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return b[0], b[1:], nil
}

func writePacket(w io.Writer, p string) {
	w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
}

// The edits that a filter asks for at the end of the message.

func addHeader(name, value string) string { return "h" + name + "\x00" + value + "\x00" }

func insHeader(index uint32, name, value string) string {
	return string(binary.BigEndian.AppendUint32([]byte{'i'}, index)) + name + "\x00" + value + "\x00"
}

func chgHeader(index uint32, name, value string) string {
	return string(binary.BigEndian.AppendUint32([]byte{'m'}, index)) + name + "\x00" + value + "\x00"
}

func addRcpt(addr string) string { return "+" + addr + "\x00" }

func addRcptPar(addr, args string) string { return "2" + addr + "\x00" + args + "\x00" }

func delRcpt(addr string) string { return "-" + addr + "\x00" }

func chgFrom(addr, args string) string { return "e" + addr + "\x00" + args + "\x00" }

func replBody(text string) string { return "b" + text }

func quarantine(why string) string { return "q" + why + "\x00" }

func replyCode(text string) string { return "y" + text + "\x00" }
