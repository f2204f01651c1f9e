package handbook

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"
)

// smtp is a dialogue, line by line: smtp [from ADDRESS] [to ADDRESS:PORT] [wrapped].
// Without words a stranger (198.51.100.7) speaks to the machine's port 25.
// "TLS" begins TLS, "TLS /path" with the certificate and key in that file;
// "S: ..." stands for the rest of a reply, however many lines it has.
func (m *machine) smtp(s step) error {
	from, to, wrapped := "198.51.100.7", "203.0.113.1:25", false
	for f := strings.Fields(s.args); len(f) > 0; f = f[1:] {
		switch {
		case f[0] == "wrapped":
			wrapped = true
		case f[0] == "from" && len(f) > 1:
			from, f = f[1], f[1:]
		case f[0] == "to" && len(f) > 1:
			to, f = f[1], f[1:]
		default:
			return fmt.Errorf("what is %q?", f[0])
		}
	}
	var conn net.Conn
	err := m.there(from, func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		conn, err = d.Dial("tcp", to)
		return err
	})
	if err != nil {
		return err
	}
	d := &dialogue{m: m, conn: conn}
	defer func() { d.conn.Close() }()
	conn.SetDeadline(time.Now().Add(patience))
	if wrapped {
		if err := d.encrypt(""); err != nil {
			return err
		}
	}
	d.in = bufio.NewReader(d.conn)
	for _, line := range s.block {
		if err := d.step(line); err != nil {
			return fmt.Errorf("%w\nso far:\n%s", err, d.said.String())
		}
	}
	return nil
}

type dialogue struct {
	m    *machine
	conn net.Conn
	in   *bufio.Reader
	said strings.Builder
	more bool // the server's reply goes on
}

func (d *dialogue) step(line string) error {
	switch verb, text, _ := strings.Cut(line, " "); verb {
	case "C:":
		text = d.m.names.fill(text)
		d.said.WriteString(line + "\n")
		_, err := d.conn.Write([]byte(text + "\r\n"))
		return err
	case "S:":
		if text == "..." {
			for {
				if _, err := d.read(); err != nil || !d.more {
					return err
				}
			}
		}
		got, err := d.read()
		if err == nil && !d.m.names.match(text, got) {
			err = fmt.Errorf("wanted %q", line)
		}
		return err
	case "TLS":
		d.said.WriteString(line + "\n")
		return d.encrypt(text)
	case "CLOSED":
		_, err := d.in.ReadByte()
		if err == nil {
			return fmt.Errorf("the connection is not closed")
		}
		return nil
	case "":
		return nil
	default:
		return fmt.Errorf("neither C: nor S: nor TLS: %q", line)
	}
}

var replyLine = regexp.MustCompile(`^\d{3}([ -]|$)`)

func (d *dialogue) read() (string, error) {
	line, err := d.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	d.said.WriteString("S: " + line + "\n")
	if !replyLine.MatchString(line) {
		return "", errors.New("not a reply")
	}
	d.more = len(line) > 3 && line[3] == '-'
	return line, nil
}

func (d *dialogue) encrypt(certificate string) error {
	config := &tls.Config{InsecureSkipVerify: true}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(d.m.Path(certificate), d.m.Path(certificate))
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	conn := tls.Client(d.conn, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	d.conn, d.in = conn, bufio.NewReader(conn)
	return nil
}
