package sasl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/sys/maillog"
)

// Dovecot passes dialogues to a Dovecot authentication server over one
// connection that all sessions share; it is opened on use, and again when it
// was lost.
type Dovecot struct {
	Path    string // of the socket; "unix:PATH" and "inet:HOST:PORT" are understood, too
	Service string // smtpd_sasl_service
	Warn    func(format string, a ...any)
	// Timeout limits connecting and each answer.
	Timeout time.Duration

	mu      sync.Mutex
	conn    *dovecotConn
	opening *dovecotOpening
	lastID  uint32
}

// DovecotTimeout is the limit that Postfix has for connecting to the server
// and for each of its answers.
const DovecotTimeout = 10 * time.Second

// NewDovecot returns a backend for a server's socket.
func NewDovecot(path string) *Dovecot {
	return &Dovecot{Path: path, Service: "smtp", Timeout: DovecotTimeout, Warn: func(string, ...any) {}}
}

// Reasons for failure that this side makes.
const (
	reasonLost        = "Connection lost to authentication server"
	reasonNoConnect   = "Can't connect to authentication server"
	reasonMechanism   = "Invalid authentication mechanism"
	reasonBadInitial  = "Invalid base64 data in initial response"
	reasonBadContinue = "Invalid base64 data in continued response"
	reasonBackend     = "Authentication backend error"
)

const (
	maxDovecotLine       = 8192
	maxDovecotMechanisms = 100
)

// dovecotConn is a connection after its handshake. Its reader hands each reply
// to the dialogue it is for.
type dovecotConn struct {
	net.Conn
	mechanisms []dovecotMechanism
	dead       chan struct{} // closed when the connection is lost
	lost       sync.Once

	mu      sync.Mutex
	waiting map[uint32]chan dovecotReply
}

type dovecotMechanism struct {
	name string
	has  Options
}

type dovecotOpening struct {
	done chan struct{}
	conn *dovecotConn
	err  error
}

// connection is the one in use, or a new one.
func (d *Dovecot) connection(ctx context.Context) (*dovecotConn, error) {
	d.mu.Lock()
	if c := d.conn; c != nil {
		select {
		case <-c.dead:
			d.conn = nil
		default:
			d.mu.Unlock()
			return c, nil
		}
	}
	o := d.opening
	if o == nil {
		o = &dovecotOpening{done: make(chan struct{})}
		d.opening = o
		go d.open(o)
	}
	d.mu.Unlock()
	select {
	case <-o.done:
		return o.conn, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Dovecot) open(o *dovecotOpening) {
	o.conn, o.err = d.connect()
	if o.err != nil {
		d.Warn("%v", o.err)
	}
	d.mu.Lock()
	d.conn, d.opening = o.conn, nil
	d.mu.Unlock()
	close(o.done)
}

func (d *Dovecot) connect() (*dovecotConn, error) {
	network, address := "unix", strings.TrimPrefix(d.Path, "unix:")
	if rest, ok := strings.CutPrefix(d.Path, "inet:"); ok {
		network, address = "tcp", rest
	}
	nc, err := net.DialTimeout(network, address, d.Timeout)
	if err != nil {
		return nil, fmt.Errorf("SASL: Connect to Dovecot auth socket '%s' failed: %v", d.Path, errno(err))
	}
	nc.SetDeadline(time.Now().Add(d.Timeout))
	if _, err := fmt.Fprintf(nc, "VERSION\t1\t0\nCPID\t%d\n", os.Getpid()); err != nil {
		nc.Close()
		return nil, fmt.Errorf("SASL: Couldn't send handshake: %v", errno(err))
	}
	c := &dovecotConn{Conn: nc, dead: make(chan struct{}), waiting: make(map[uint32]chan dovecotReply)}
	in := bufio.NewReaderSize(nc, maxDovecotLine)
	var hs dovecotHandshake
	for !hs.done {
		line, err := readDovecot(in)
		if err != nil {
			nc.Close()
			if errors.Is(err, bufio.ErrBufferFull) {
				return nil, errProtocol
			}
			return nil, errors.New("SASL: Couldn't read handshake: " + errno(err).Error())
		}
		if err := hs.line(line); err != nil {
			nc.Close()
			return nil, err
		}
	}
	c.mechanisms = hs.mechanisms
	nc.SetDeadline(time.Time{})
	go c.read(in)
	return c, nil
}

func errno(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("Connection timed out")
	}
	return maillog.Errno(err)
}

func readDovecot(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

// Warnings about a server that breaks the protocol.
var (
	errVersion     = errors.New("SASL: Protocol version error")
	errWrongSocket = errors.New("SASL: Connected to wrong auth socket (auth-master instead of auth-client)")
	errProtocol    = errors.New("SASL: Protocol error")
)

// dovecotHandshake collects what a server says first.
type dovecotHandshake struct {
	mechanisms []dovecotMechanism
	done       bool
}

var dovecotProperties = map[string]Options{"plaintext": NoPlaintext, "active": NoActive, "dictionary": NoDictionary, "anonymous": NoAnonymous}

func (h *dovecotHandshake) line(line string) error {
	words := strings.Split(line, "\t")
	switch words[0] {
	case "VERSION":
		if len(words) < 2 {
			return errVersion
		}
		n, err := strconv.Atoi(words[1])
		switch {
		case err != nil:
			return errVersion
		case n != 1:
			return fmt.Errorf("SASL: Protocol version mismatch (%d vs. 1)", n)
		}
	case "MECH":
		return h.mechanism(words[1:])
	case "SPID":
		if len(h.mechanisms) == 0 {
			return errWrongSocket
		}
	case "DONE":
		h.done = true
	}
	return nil
}

func (h *dovecotHandshake) mechanism(words []string) error {
	if len(words) == 0 || words[0] == "" || len(h.mechanisms) >= maxDovecotMechanisms {
		return errProtocol
	}
	m := dovecotMechanism{name: words[0], has: NoPlaintext | NoActive | NoDictionary | NoAnonymous}
	if strings.ContainsFunc(m.name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errProtocol
	}
	for _, w := range words[1:] {
		switch w = strings.ToLower(w); w {
		case "private":
			return nil
		case "forward-secrecy":
			m.has |= ForwardSecrecy
		case "mutual-auth":
			m.has |= MutualAuth
		default:
			m.has &^= dovecotProperties[w]
		}
	}
	h.mechanisms = append(h.mechanisms, m)
	return nil
}

// dovecotReply is OK, CONT or FAIL.
type dovecotReply struct {
	verb         string
	data         string // of CONT
	user, reason string
}

// parseDovecot understands a reply; other lines are not ok.
func parseDovecot(line string) (id uint32, r dovecotReply, ok bool) {
	words := strings.Split(line, "\t")
	if len(words) < 2 {
		return 0, r, false
	}
	n, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return 0, r, false
	}
	r.verb = words[0]
	switch r.verb {
	case "CONT":
		if len(words) > 2 {
			r.data = words[2]
		}
	case "OK", "FAIL":
		for _, w := range words[2:] {
			if v, ok := strings.CutPrefix(w, "user="); ok {
				r.user = v
			} else if v, ok := strings.CutPrefix(w, "reason="); ok {
				r.reason = v
			}
		}
	default:
		return 0, r, false
	}
	return uint32(n), r, true
}

// lose ends the connection: from now on nobody is given it.
func (c *dovecotConn) lose() {
	c.lost.Do(func() {
		c.Close()
		close(c.dead)
	})
}

func (c *dovecotConn) read(in *bufio.Reader) {
	defer c.lose()
	for {
		line, err := readDovecot(in)
		if err != nil {
			return
		}
		id, reply, ok := parseDovecot(line)
		if !ok {
			continue
		}
		c.mu.Lock()
		if ch := c.waiting[id]; ch != nil {
			select {
			case ch <- reply:
			default: // more than was asked for
			}
		}
		c.mu.Unlock()
	}
}

// Mechanisms implements Backend.
func (d *Dovecot) Mechanisms(ctx context.Context, p Peer) ([]string, error) {
	c, err := d.connection(ctx)
	if err != nil {
		return nil, nil // the warning has been logged
	}
	return c.names(p.Options), nil
}

func (c *dovecotConn) names(demand Options) []string {
	var names []string
	for _, m := range c.mechanisms {
		if m.has&demand == demand {
			names = append(names, m.name)
		}
	}
	return names
}

// dovecotDialogue is an Exchange of this backend.
type dovecotDialogue struct {
	d    *Dovecot
	conn *dovecotConn
	id   uint32
}

// Start implements Backend.
func (d *Dovecot) Start(ctx context.Context, r Request) (Exchange, Outcome) {
	var initial *string
	if r.Initial != nil {
		if initial = r.Initial; !isBase64(*initial) {
			return nil, Outcome{Status: Failed, Text: reasonBadInitial}
		}
	}
	for try := 0; ; try++ {
		c, err := d.connection(ctx)
		if err != nil {
			return nil, Outcome{Status: Temporary, Text: reasonNoConnect}
		}
		if !slices.ContainsFunc(c.names(r.Options), func(n string) bool { return strings.EqualFold(n, r.Mechanism) }) {
			return nil, Outcome{Status: Failed, Text: reasonMechanism}
		}
		x := d.dialogue(c)
		out, lost := x.ask(ctx, x.request(r.Mechanism, r.Peer, initial))
		switch {
		case lost && try == 0:
			continue
		case out.Status == Challenge:
			return x, out
		}
		return nil, out
	}
}

func (d *Dovecot) dialogue(c *dovecotConn) *dovecotDialogue {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastID++
	return &dovecotDialogue{d, c, d.lastID}
}

func (x *dovecotDialogue) request(mechanism string, p Peer, initial *string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "AUTH\t%d\t%s\tservice=%s\tnologin", x.id, mechanism, x.d.Service)
	if p.ServerAddr != "" {
		b.WriteString("\tlip=" + p.ServerAddr)
	}
	if p.ClientAddr != "" {
		b.WriteString("\trip=" + p.ClientAddr)
	}
	if p.TLS {
		b.WriteString("\tsecured")
	}
	if initial != nil {
		b.WriteString("\tresp=" + *initial)
	}
	b.WriteByte('\n')
	return b.String()
}

// Next implements Exchange.
func (x *dovecotDialogue) Next(ctx context.Context, response string) Outcome {
	if !isBase64(response) {
		return Outcome{Status: Failed, Text: reasonBadContinue}
	}
	out, _ := x.ask(ctx, fmt.Sprintf("CONT\t%d\t%s\n", x.id, response))
	return out
}

// ask sends a line and waits for its answer. lost says that the connection
// broke.
func (x *dovecotDialogue) ask(ctx context.Context, line string) (out Outcome, lost bool) {
	c := x.conn
	ch := make(chan dovecotReply, 1)
	c.mu.Lock()
	c.waiting[x.id] = ch
	c.SetWriteDeadline(time.Now().Add(x.d.Timeout))
	_, err := c.Write([]byte(line))
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, x.id)
		c.mu.Unlock()
	}()
	broken := Outcome{Status: Temporary, Text: reasonLost}
	if err != nil {
		c.lose()
		return broken, true
	}
	timer := time.NewTimer(x.d.Timeout)
	defer timer.Stop()
	select {
	case r := <-ch:
		return x.outcome(r), false
	case <-c.dead:
		select {
		case r := <-ch: // it was the last word
			return x.outcome(r), false
		default:
		}
		return broken, true
	case <-timer.C:
		c.lose() // a silent server; the next dialogue finds a better one
		return broken, false
	case <-ctx.Done():
		return broken, false
	}
}

func (x *dovecotDialogue) outcome(r dovecotReply) Outcome {
	if r.verb == "CONT" {
		if !isBase64(r.data) {
			return Outcome{Status: Failed, Text: reasonBackend}
		}
		return Outcome{Status: Challenge, Text: r.data}
	}
	if r.verb == "FAIL" {
		return Outcome{Status: Failed, Text: r.reason, User: r.user}
	}
	if r.user == "" {
		x.d.Warn("missing Dovecot server %s username field", r.verb)
		return Outcome{Status: Failed, Text: reasonBackend}
	}
	return Outcome{Status: OK, User: r.user}
}

// isBase64 keeps line ends and tabs out of the protocol; the server judges the
// rest.
func isBase64(s string) bool {
	for i := 0; i < len(s); i++ {
		ch := s[i] | 0x20
		if (ch < 'a' || ch > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '+' && s[i] != '/' && s[i] != '=' {
			return false
		}
	}
	return true
}
