package stock

import (
	"io"
	"net"

	"github.com/emersion/go-smtp"
)

// relay is a relay host that accepts everything and shows it.
func relay(l net.Listener, arrived chan<- string) {
	server := smtp.NewServer(backend(arrived))
	server.Domain = "relay.test"
	server.EnableDSN = true
	server.Serve(l)
}

type backend chan<- string

func (b backend) NewSession(*smtp.Conn) (smtp.Session, error) { return session{b}, nil }

type session struct{ arrived chan<- string }

func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (session) Reset()                               {}
func (session) Logout() error                        { return nil }

func (s session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	s.arrived <- string(data)
	return err
}
