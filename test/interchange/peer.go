package interchange

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"posthaste/test/world"
)

// sink is the other host of the battery: an independent SMTP server that
// keeps what it gets and refuses what its recipient's name asks for
// ("reject…" for good, "later…" until it is opened).
type sink struct {
	mu   sync.Mutex
	mail []received
	open bool
}

// received is one message as the sink saw it.
type received struct {
	From string
	To   []string
	Data string
}

func startSink(w *world.World, address string) (*sink, func(), error) {
	l, err := w.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	s := &sink{}
	server := smtp.NewServer(s)
	server.Domain = "sink.test"
	server.EnableSMTPUTF8, server.EnableDSN = true, true
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	server.ErrorLog = quiet{}
	go server.Serve(l)
	return s, func() { server.Close() }, nil
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

// Open makes the sink accept what it had put off.
func (s *sink) Open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
}

// Mail returns the messages with that text in them, one sorted string each.
func (s *sink) Mail(text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for _, m := range s.mail {
		if strings.Contains(m.Data, text) {
			to := slices.Clone(m.To)
			slices.Sort(to)
			found = append(found, fmt.Sprintf("sink from=<%s> to=%s\n%s", m.From, strings.Join(to, ","), m.Data))
		}
	}
	slices.Sort(found)
	return found
}

type sinkSession struct {
	sink *sink
	now  received
}

func (s *sinkSession) Mail(from string, o *smtp.MailOptions) error {
	s.now = received{From: from}
	if o != nil && (o.EnvelopeID != "" || o.Return != "") {
		s.now.From += fmt.Sprintf(" envid=%s ret=%s", o.EnvelopeID, o.Return)
	}
	return nil
}

func (s *sinkSession) Rcpt(to string, o *smtp.RcptOptions) error {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	switch {
	case strings.HasPrefix(to, "reject"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
	case strings.HasPrefix(to, "later") && !s.sink.open:
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "come back later"}
	}
	if o != nil && len(o.Notify) > 0 {
		to += fmt.Sprint(" notify=", o.Notify)
	}
	s.now.To = append(s.now.To, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.now.Data = string(data)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.mail = append(s.sink.mail, s.now)
	return nil
}

func (s *sinkSession) Reset()        { s.now = received{} }
func (s *sinkSession) Logout() error { return nil }

// dialogue speaks SMTP to the machine's port 25 line by line and returns both
// sides. "DATA" is followed by the message itself, given as one element that
// ends in "\r\n.\r\n"; an element that starts with "BDAT" is sent as it is.
func dialogue(w *world.World, lines ...string) (string, error) {
	conn, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	r := textproto.NewReader(bufio.NewReader(conn))
	var b strings.Builder
	reply := func() error {
		code, text, err := r.ReadResponse(0)
		var bad *textproto.Error
		if err != nil && !errors.As(err, &bad) {
			return fmt.Errorf("%w\n%s", err, b.String())
		}
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(&b, "S: %d %s\n", code, line)
		}
		return nil
	}
	if err := reply(); err != nil {
		return b.String(), err
	}
	for _, line := range lines {
		shown, _, _ := strings.Cut(line, "\r\n")
		fmt.Fprintf(&b, "C: %.60s\n", shown)
		if !strings.HasSuffix(line, "\r\n.\r\n") && !strings.HasPrefix(line, "BDAT") {
			line += "\r\n"
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return b.String(), err
		}
		if err := reply(); err != nil {
			return b.String(), err
		}
	}
	return b.String(), nil
}
