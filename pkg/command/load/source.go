package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/sys/maillog"
)

// Timeout is how long a source waits for its peer.
const Timeout = 300 * time.Second

// Source are the options that both sources have.
type Source struct {
	Family              int
	Show                bool // -c
	Tries               int
	From, To, Host      string // "" From and To are foo@Host
	Length              int    // of the message in bytes; 0 is the stock message
	Messages, Sessions  int
	Recipients, Verbose int
	Window              int
	Pause               Pause
	Address             Address

	given map[byte]bool
	count *Counter
	log   *maillog.Logger
	out   io.Writer
	mu    sync.Mutex // of the display
}

// SourceOptions are the letters that Option understands, for getopt.Parse.
const SourceOptions = "46cC:f:l:m:M:r:R:s:t:T:vw:"

// NewSource has the defaults.
func NewSource(log *maillog.Logger, env command.Env) *Source {
	return &Source{
		Tries: 1, Messages: 1, Sessions: 1, Recipients: 1,
		given: map[byte]bool{}, log: log, out: env.Stdout,
	}
}

// counts are the options with a number: what it is called, the least value.
var counts = map[byte]struct {
	name  string
	least int
	to    func(*Source) *int
}{
	'C': {"connection count", 1, func(s *Source) *int { return &s.Tries }},
	'l': {"message length", 1, func(s *Source) *int { return &s.Length }},
	'm': {"message count", 1, func(s *Source) *int { return &s.Messages }},
	'r': {"recipient count", 1, func(s *Source) *int { return &s.Recipients }},
	's': {"session count", 1, func(s *Source) *int { return &s.Sessions }},
	'R': {"random delay", 0, func(s *Source) *int { return &s.Pause.Random }},
	'w': {"fixed delay", 0, func(s *Source) *int { return &s.Pause.Fixed }},
	'T': {"TCP window size", 1, func(s *Source) *int { return &s.Window }},
}

// ErrPauses is returned by Option when both kinds of pause are asked for.
var ErrPauses = errors.New("do not use -w and -R options at the same time")

// Option takes one option of the command line.
func (s *Source) Option(o getopt.Option) error {
	s.given[o.Letter] = true
	if s.given['w'] && s.given['R'] {
		return ErrPauses
	}
	switch o.Letter {
	case '4', '6':
		s.Family = int(o.Letter - '0')
	case 'c':
		s.Show = true
	case 'f':
		s.From = o.Value
	case 't':
		s.To = o.Value
	case 'M':
		s.Host = o.Value
	case 'v':
		s.Verbose++
	}
	if c, ok := counts[o.Letter]; ok {
		n, ok := Number(o.Value, c.least)
		if !ok {
			return fmt.Errorf("bad %s: %s", c.name, o.Value)
		}
		*c.to(s) = n
	}
	return nil
}

// Ready fills in what was not given and looks up the peer's address.
func (s *Source) Ready(address, port string) (err error) {
	if s.Host == "" {
		if s.Host, err = os.Hostname(); err != nil {
			return err
		}
	}
	if !s.given['f'] {
		s.From = "foo@" + s.Host
	}
	if !s.given['t'] {
		s.To = "foo@" + s.Host
	}
	s.count = NewCounter(s.Messages)
	if s.Address, err = Parse(address, port, s.Family); err != nil {
		return err
	}
	return s.Address.Resolve()
}

// Conn is a connection to the peer.
type Conn struct {
	net.Conn
	R *bufio.Reader
	W *bufio.Writer
}

// connBuffer is the size of either buffer of a Conn in bytes.
const connBuffer = 8 << 10

// Dial connects.
func (s *Source) Dial() (*Conn, error) {
	c, err := s.Address.Dial(s.Tries, s.Window, Timeout)
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReaderSize(c, connBuffer), bufio.NewWriterSize(c, connBuffer)}, nil
}

// Flush sends what was written and gives the peer Timeout to answer.
func (c *Conn) Flush() error {
	if err := c.SetDeadline(time.Now().Add(Timeout)); err != nil {
		return err
	}
	return c.W.Flush()
}

// Lost is what is said about a broken conversation.
func Lost(err error, doing string) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("timeout while %s", doing)
	}
	return fmt.Errorf("lost connection while %s", doing)
}

// Take reports whether there is another message to send.
func (s *Source) Take() (rest int, ok bool) { return s.count.Take() }

// Done counts a message that was delivered.
func (s *Source) Done() {
	n := s.count.Done()
	if s.Show {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, _ = s.out.Write(append(strconv.AppendInt(nil, int64(n), 10), '\r'))
	}
}

// Run runs the sessions in parallel until all messages are sent. The first
// error ends the program: other sessions are cut off, as the original does.
func (s *Source) Run(session func(number int) error) int {
	errs := make(chan error, s.Sessions)
	for i := range s.Sessions {
		go func() { errs <- session(i) }()
	}
	for range s.Sessions {
		if err := <-errs; err != nil {
			s.log.Fatal("%v", err)
		}
	}
	if s.Show {
		fmt.Fprintln(s.out)
	}
	return 0
}
