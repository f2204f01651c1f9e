package smtpsink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	bufferSize = 16 << 10 // of a connection; a longer command line is cut
	dot        = "."
)

var (
	errDrop  = errors.New("session is over") // by our own decision
	errEnded = errors.New("enough mail")     // -M or -n
)

// session is one connection.
type session struct {
	*sink
	c    net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	peer string // address for dumps

	helo       string // arguments of the last accepted HELO, EHLO or LHLO
	proto      string
	from       string   // arguments of MAIL
	recipients []string // of RCPT, kept only when they will be dumped
	rcpts      int
	mail       bool // MAIL was accepted
	quit       bool
}

func newSession(k *sink, c net.Conn) *session {
	s := &session{sink: k, c: c, r: bufio.NewReaderSize(c, bufferSize), w: bufio.NewWriter(c), peer: "local", proto: "SMTP"}
	if k.lmtp {
		s.proto = "LMTP"
	}
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		if s.peer = tcp.IP.String(); tcp.IP.To4() == nil {
			s.peer = "ipv6:" + s.peer
		}
	}
	return s
}

// run is the conversation. Read and write errors end it; only a time-out is
// worth a record.
func (s *session) run() {
	if s.log.Verbose() > 0 {
		s.log.Info("connect (%s)", s.c.RemoteAddr())
	}
	err := s.greet()
	for err == nil {
		err = s.command()
	}
	if err == errDrop {
		err = s.flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.log.Warn("read timeout")
	} else if s.log.Verbose() > 0 {
		s.log.Info("disconnect")
	}
	s.forget(s.c)
	if !errors.Is(err, errEnded) {
		quit := 0
		if s.quit {
			quit = 1
		}
		s.count(1, quit, 0)
	}
}

// flush sends the replies so far, within the time limit.
func (s *session) flush() error {
	if s.w.Buffered() == 0 {
		return nil
	}
	if err := s.c.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	return s.w.Flush()
}

func (s *session) reply(text string) error {
	_, err := s.w.WriteString(text)
	if err == nil {
		_, err = s.w.WriteString("\r\n")
	}
	return err
}

// await is called before a read: what the client waits for is sent when
// nothing more of it has arrived.
func (s *session) await() error {
	if s.r.Buffered() > 0 {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.c.SetReadDeadline(time.Now().Add(s.timeout))
}

func (s *session) greet() error {
	if stop, err := s.special("CONNECT", ""); stop {
		return err
	}
	switch {
	case s.pix:
		return s.reply("220 ********")
	case s.noESMTP:
		return s.reply("220 " + s.hostname)
	}
	return s.reply("220 " + s.hostname + " ESMTP")
}

// special does what was asked for this command on the command line; stop says
// that the command is done with.
func (s *session) special(name, args string) (stop bool, err error) {
	b := s.behaviour[name]
	if b.log {
		s.syslog.Info("%s %s", strings.ToLower(name), args)
	}
	if b.delay > 0 {
		if err := s.flush(); err != nil {
			return true, err
		}
		s.sleep(b)
	}
	switch {
	case b.drop:
		return true, errDrop
	case b.close421:
		_ = s.reply("421 4.0.0 Server closing connection")
		return true, errDrop
	case b.hard:
		return true, s.reject(name, s.hard)
	case b.soft:
		return true, s.reject(name, s.soft)
	}
	return false, nil
}

// reject says no; to the end of an LMTP message once a recipient.
func (s *session) reject(name, text string) error {
	if name != dot || !s.lmtp {
		return s.reply(text)
	}
	for range s.rcpts {
		if err := s.reply(text); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) sleep(b *behaviour) {
	times := 1
	for b.odds > 0 && rand.IntN(100) < b.odds {
		times++
	}
	time.Sleep(time.Duration(times) * b.delay)
}

// handlers are the commands.
var handlers = map[string]func(s *session, args string) error{
	"HELO": func(s *session, args string) error { s.hello(args, "SMTP"); return s.reply("250 " + s.hostname) },
	"EHLO": func(s *session, args string) error { return s.ehlo(args, "ESMTP") },
	"LHLO": func(s *session, args string) error { return s.ehlo(args, "LMTP") },
	"MAIL": (*session).mailFrom,
	"RCPT": (*session).rcptTo,
	"DATA": (*session).data,
	"RSET": func(s *session, _ string) error { s.reset(); return s.reply("250 2.1.0 Ok") },
	"QUIT": func(s *session, _ string) error { s.quit = true; _ = s.reply("221 Bye"); return errDrop },

	"NOOP": ok, "VRFY": ok, "AUTH": ok, "XCLIENT": ok, "XFORWARD": ok, dot: (*session).accepted,
}

func ok(s *session, _ string) error { return s.reply("250 2.0.0 Ok") }

// has reports whether a command exists in this mode.
func (s *session) has(name string) bool {
	switch name {
	case "HELO":
		return !s.lmtp
	case "EHLO":
		return !s.lmtp && !s.noESMTP
	case "LHLO":
		return s.lmtp
	}
	return handlers[name] != nil && !slices.Contains(s.disabled, name)
}

func (s *session) command() error {
	if err := s.await(); err != nil {
		return err
	}
	line, err := s.line()
	if err != nil {
		return err
	}
	if s.log.Verbose() > 0 {
		s.log.Info("%s", line)
	}
	text := strings.TrimLeft(line, " \t")
	word, args := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		word, args = text[:i], text[i+1:]
	}
	if word == "" {
		return s.reply("500 5.5.2 Error: unknown command")
	}
	name := strings.ToUpper(word)
	if !s.has(name) {
		return s.reply("500 5.5.1 Error: unknown command")
	}
	if stop, err := s.special(name, args); stop {
		return err
	}
	return handlers[name](s, args)
}

// line reads a command.
func (s *session) line() (string, error) {
	raw, err := s.r.ReadSlice('\n')
	text := strings.TrimRight(string(raw), "\r\n")
	for err == bufio.ErrBufferFull {
		_, err = s.r.ReadSlice('\n')
	}
	return text, err
}

func (s *session) reset() { s.mail, s.rcpts, s.from, s.recipients = false, 0, "", nil }

func (s *session) hello(args, proto string) {
	s.reset()
	s.helo, s.proto = args, proto
}

func (s *session) ehlo(args, proto string) error {
	s.hello(args, proto)
	for _, word := range append([]string{s.hostname}, s.keywords...) {
		if err := s.reply("250-" + word); err != nil {
			return err
		}
	}
	return s.reply("250 ")
}

// after returns what follows the colon of "FROM:" or "TO:".
func after(args string) string {
	_, rest, _ := strings.Cut(args, ":")
	return strings.TrimLeft(rest, " \t")
}

func (s *session) mailFrom(args string) error {
	if s.mail {
		return s.reply("503 5.5.1 Error: nested MAIL command")
	}
	s.mail, s.from = true, after(args)
	return s.reply("250 2.1.0 Ok")
}

func (s *session) rcptTo(args string) error {
	if !s.mail {
		return s.reply("503 5.5.1 Error: need MAIL command")
	}
	s.rcpts++
	if s.dump != "" {
		s.recipients = append(s.recipients, after(args))
	}
	return s.reply("250 2.1.5 Ok")
}

func (s *session) data(string) error {
	if s.rcpts == 0 {
		return s.reply("503 5.5.1 Error: need RCPT command")
	}
	if err := s.reply("354 End data with <CR><LF>.<CR><LF>"); err != nil {
		return err
	}
	if s.aborts {
		if err := s.flush(); err != nil {
			return err
		}
		time.Sleep(s.abort)
		_ = s.reply("550 This violates SMTP")
		return errDrop
	}
	if s.readDelay > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		time.Sleep(s.readDelay)
	}
	file := s.dumper.open(s)
	if err := s.content(file); err != nil {
		file.discard()
		return err
	}
	if err := file.commit(); err != nil {
		s.log.Fatal("%v", err)
	}
	if s.log.Verbose() > 0 {
		s.log.Info(dot)
	}
	if !s.count(0, 0, 1) {
		return errEnded
	}
	defer s.reset()
	if stop, err := s.special(dot, ""); stop {
		return err
	}
	return s.accepted("")
}

// accepted is the reply to a message.
func (s *session) accepted(string) error {
	if !s.lmtp {
		return s.reply("250 2.0.0 Ok")
	}
	return s.reject(dot, "250 2.2.0 Ok")
}

// content reads a message up to its last line.
func (s *session) content(file *capture) error {
	start := true // of a line
	for {
		if err := s.await(); err != nil {
			return err
		}
		line, err := s.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		complete := bytes.HasSuffix(line, []byte("\r\n"))
		if start && complete && len(line) == 3 && line[0] == '.' {
			return nil
		}
		if file != nil {
			text := line
			if start && text[0] == '.' {
				text = text[1:]
			}
			file.write(text, complete)
		}
		start = complete
	}
}
