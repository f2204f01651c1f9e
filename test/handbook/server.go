package handbook

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// server is a mail host other than the machine: a provider, somebody's MX, a
// content filter, an LMTP store. It accepts everything but what its lines say.
type server struct {
	name     string
	listener net.Listener
	lmtp     bool
	tls      bool // from the first byte
	config   *tls.Config
	user     string // with a password: nobody may send without
	password string
	forward  string // where a filter brings what it accepted
	dial     func(address string) (net.Conn, error)
	hidden   []string          // EHLO keywords not offered
	answers  map[string]string // by the command's first words, in upper case
	mu       sync.Mutex
	seen     []string
}

// server starts one, "server ADDRESS:PORT NAME", or expects lines in what it was
// sent, "server ADDRESS:PORT saw"; "server ADDRESS:PORT stops" ends it.
func (m *machine) server(s step) error {
	f := strings.Fields(s.args)
	if len(f) != 2 {
		return fmt.Errorf("want ADDRESS:PORT and NAME, saw or stops")
	}
	known := m.servers[f[0]]
	switch {
	case f[1] != "saw" && f[1] != "stops":
		started, err := m.startServer(f[0], f[1], s.block)
		if err == nil {
			m.servers[f[0]] = started
		}
		return err
	case known == nil:
		return fmt.Errorf("no such server was started")
	case f[1] == "stops":
		known.close()
		return nil
	}
	return m.until(s.block, true, func() []string {
		known.mu.Lock()
		defer known.mu.Unlock()
		return append([]string(nil), known.seen...)
	})
}

func (m *machine) startServer(address, name string, lines []string) (*server, error) {
	host, _, _ := strings.Cut(address, ":")
	s := &server{name: name, answers: map[string]string{}}
	s.dial = func(address string) (conn net.Conn, err error) {
		err = m.there(host, func() (err error) {
			conn, err = net.DialTimeout("tcp", address, patience)
			return err
		})
		return conn, err
	}
	certificate := ""
	starttls := false
	for _, line := range lines {
		if command, reply, ok := strings.Cut(line, " -> "); ok {
			s.answers[strings.ToUpper(command)] = reply
			continue
		}
		f := append(strings.Fields(line), "", "")
		switch f[0] {
		case "starttls":
			starttls = true
		case "tls":
			s.tls = true
		case "lmtp":
			s.lmtp = true
		case "certificate":
			certificate = m.Path(f[1])
		case "auth":
			s.user, s.password = f[1], f[2]
		case "forward":
			s.forward = f[1]
		case "without":
			s.hidden = append(s.hidden, f[1])
		case "":
		default:
			return nil, fmt.Errorf("what is %q?", line)
		}
	}
	if starttls || s.tls {
		pair, err := selfSigned(name)
		if certificate != "" {
			pair, err = tls.LoadX509KeyPair(certificate, certificate)
		}
		if err != nil {
			return nil, err
		}
		s.config = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	}
	err := m.there(host, func() (err error) {
		s.listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	go s.serve()
	return s, nil
}

func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (s *server) close() { s.listener.Close() }

func (s *server) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(2 * patience))
			(&session{server: s, conn: conn}).run()
		}()
	}
}

func (s *server) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
}

// session is one connection to a server.
type session struct {
	*server
	conn       net.Conn
	in         *bufio.Reader
	encrypted  bool
	known      bool // logged in
	sender     string
	recipients []string
}

func (s *session) reply(line string) {
	s.conn.Write([]byte(strings.ReplaceAll(line, "\\n", "\r\n") + "\r\n"))
}

func (s *session) handshake() bool {
	conn := tls.Server(s.conn, s.config)
	if err := conn.Handshake(); err != nil {
		s.note("(TLS failed: %v)", err)
		return false
	}
	state := conn.ConnectionState()
	who := ""
	if len(state.PeerCertificates) > 0 {
		who = " by " + state.PeerCertificates[0].Subject.CommonName
	}
	s.note("(TLS%s)", who)
	s.conn, s.in, s.encrypted = conn, bufio.NewReader(conn), true
	return true
}

func (s *session) run() {
	host, _, _ := net.SplitHostPort(s.conn.RemoteAddr().String())
	s.note("(from %s)", host)
	s.in = bufio.NewReader(s.conn)
	if s.tls && !s.handshake() {
		return
	}
	if a, ok := s.answers["CONNECT"]; ok {
		s.reply(a)
	} else {
		s.reply("220 " + s.name + " ESMTP")
	}
	for {
		line, err := s.line()
		if err != nil {
			return
		}
		s.note("%s", line)
		if !s.command(line) {
			return
		}
	}
}

func (s *session) line() (string, error) {
	line, err := s.in.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// scripted is the answer that the scenario gives to a command.
func (s *session) scripted(command string) (string, bool) {
	for prefix, answer := range s.answers {
		if strings.HasPrefix(strings.ToUpper(command), prefix) {
			return answer, true
		}
	}
	return "", false
}

// command answers one and reports whether the session goes on.
func (s *session) command(line string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	if answer, ok := s.scripted(line); ok {
		s.reply(answer)
		return !strings.HasPrefix(answer, "421")
	}
	switch verb {
	case "EHLO", "LHLO":
		s.reply("250-" + s.name + strings.Join(s.offers(), "") + "\r\n250 8BITMIME")
	case "HELO", "NOOP", "XFORWARD", "XCLIENT":
		s.reply("250 2.0.0 Ok")
	case "STARTTLS":
		s.reply("220 2.0.0 Ready")
		return s.handshake()
	case "AUTH":
		s.auth(line)
	case "MAIL":
		if s.user != "" && !s.known {
			s.reply("530 5.7.0 Authentication required")
			return true
		}
		s.sender, s.recipients = line, nil
		s.reply("250 2.1.0 Ok")
	case "RCPT":
		s.recipients = append(s.recipients, line)
		s.reply("250 2.1.5 Ok")
	case "DATA":
		if len(s.recipients) == 0 {
			s.reply("554 5.5.1 No recipients")
			return true
		}
		s.reply("354 Go ahead")
		return s.data()
	case "RSET":
		s.recipients = nil
		s.reply("250 2.0.0 Ok")
	case "QUIT":
		s.reply("221 2.0.0 Bye")
		return false
	default:
		s.reply("502 5.5.2 Unknown command")
	}
	return true
}

// offers are the EHLO lines.
func (s *session) offers() []string {
	offers := []string{"PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "SIZE 10240000"}
	if s.config != nil && !s.encrypted {
		offers = append(offers, "STARTTLS")
	}
	if s.user != "" && (s.config == nil || s.encrypted) {
		offers = append(offers, "AUTH PLAIN LOGIN")
	}
	if s.forward != "" {
		offers = append(offers, "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT")
	}
	var lines []string
next:
	for _, o := range offers {
		for _, h := range s.hidden {
			if strings.HasPrefix(o, h) {
				continue next
			}
		}
		lines = append(lines, "\r\n250-"+o)
	}
	return lines
}

func (s *session) auth(line string) {
	f := append(strings.Fields(line), "", "")
	text := f[2]
	var user, password string
	ask := func(prompt string) string {
		s.reply("334 " + base64.StdEncoding.EncodeToString([]byte(prompt)))
		answer, _ := s.line()
		return decode(answer)
	}
	switch strings.ToUpper(f[1]) {
	case "PLAIN":
		if text == "" {
			text = base64.StdEncoding.EncodeToString([]byte(ask("")))
		}
		parts := append(strings.Split(decode(text), "\x00"), "", "", "")
		user, password = parts[1], parts[2]
	case "LOGIN":
		if user = decode(text); text == "" {
			user = ask("Username:")
		}
		password = ask("Password:")
	}
	if s.known = user == s.user && password == s.password; s.known {
		s.note("(logged in: %s)", user)
		s.reply("235 2.7.0 Authentication successful")
		return
	}
	s.note("(wrong password: %s)", user)
	s.reply("535 5.7.8 Authentication failed")
}

func decode(s string) string {
	data, _ := base64.StdEncoding.DecodeString(s)
	return string(data)
}

// data takes the message, and as a filter brings it on before it answers.
func (s *session) data() bool {
	var lines []string
	for {
		line, err := s.line()
		if err != nil {
			return false
		}
		if line == "." {
			break
		}
		lines = append(lines, line)
	}
	for _, line := range append(lines, ".") {
		s.note("%s", line)
	}
	answer := "250 2.0.0 Taken by " + s.name
	if a, ok := s.answers["."]; ok {
		answer = a
	} else if s.forward != "" {
		answer = s.bring(lines)
	}
	times := 1
	if s.lmtp {
		times = len(s.recipients)
	}
	for range times {
		s.reply(answer)
	}
	return true
}

// bring hands the message to the next host, with a header field of its own.
func (s *session) bring(lines []string) string {
	conn, err := s.dial(s.forward)
	if err != nil {
		return "451 4.4.1 " + err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	c := textproto.NewConn(conn)
	commands := append([]string{"", "EHLO " + s.name, s.sender}, s.recipients...)
	for _, command := range append(commands, "DATA") {
		if command != "" {
			c.PrintfLine("%s", command)
		}
		if code, text, err := c.ReadResponse(0); err != nil || code >= 400 {
			return fmt.Sprintf("%d %s", code, text)
		}
	}
	c.PrintfLine("X-Filtered: by %s", s.name)
	for _, line := range append(lines, ".") {
		c.PrintfLine("%s", line)
	}
	code, text, err := c.ReadResponse(0)
	if err != nil && code == 0 {
		return "451 4.3.0 " + err.Error()
	}
	c.PrintfLine("QUIT")
	return fmt.Sprintf("%d %s", code, text)
}
