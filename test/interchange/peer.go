package interchange

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"posthaste/test/world"
)

// sink is the other host of the battery: an independent server for SMTP (2526),
// SMTP with TLS and AUTH (2527) and LMTP (2528 and a unix socket) that keeps
// what it gets and refuses what its recipient's name asks for ("reject…" for
// good, "later…" until it is opened, with LMTP "half…" after the content).
type sink struct {
	mu   sync.Mutex
	mail []received
	open map[string]bool
}

// received is one message as the sink saw it.
type received struct {
	From string
	To   []string
	Data string
}

// startSink starts the servers; the returned function ends them.
func startSink(w *world.World, certificate tls.Certificate) (*sink, func(), error) {
	s := &sink{open: map[string]bool{}}
	var servers []*smtp.Server
	stop := func() {
		for _, server := range servers {
			server.Close()
		}
	}
	for _, at := range []struct {
		network, address string
		lmtp, tls        bool
	}{
		{"tcp", "127.0.0.1:2526", false, false}, {"tcp", "127.0.0.1:2527", false, true},
		{"tcp", "127.0.0.1:2528", true, false}, {"unix", w.Path("/var/spool/postfix/lmtp.sock"), true, false},
	} {
		l, err := w.Listen(at.network, at.address)
		if err != nil {
			stop()
			return nil, nil, err
		}
		if at.network == "unix" {
			os.Chmod(at.address, 0o666)
		}
		server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
			session := &sinkSession{sink: s}
			if at.lmtp {
				return lmtpSession{session}, nil
			}
			if at.tls {
				return authSession{session}, nil
			}
			return session, nil
		}))
		server.Domain, server.LMTP = "sink.test", at.lmtp
		server.EnableSMTPUTF8, server.EnableDSN = true, true
		server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
		server.ErrorLog = quiet{}
		if at.tls {
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
		}
		servers = append(servers, server)
		go server.Serve(l)
	}
	return s, stop, nil
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Open makes the sink accept a recipient that it had put off.
func (s *sink) Open(recipient string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[recipient] = true
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
	user string // who logged in
	now  received
}

func (s *sinkSession) Mail(from string, o *smtp.MailOptions) error {
	s.now = received{From: from}
	if s.user != "" {
		s.now.From += " auth=" + s.user
	}
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
	case strings.HasPrefix(to, "later") && !s.sink.open[to]:
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

// authSession is a session that wants a login.
type authSession struct{ *sinkSession }

func (authSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s authSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

// lmtpSession answers for each recipient.
type lmtpSession struct{ *sinkSession }

func (s lmtpSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	for _, to := range s.now.To {
		if strings.HasPrefix(to, "half") {
			status.SetStatus(to, &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 2, 2}, Message: "mailbox full"})
		} else {
			status.SetStatus(to, nil)
		}
	}
	return s.Data(r)
}
