package interchange

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"posthaste/test/world"
)

// dialTime limits a connection of a client of the battery.
const dialTime = 60 * time.Second

// dial connects to "HOST:PORT" or "unix:PATH", the path relative to the queue
// directory.
func dial(w *world.World, address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", w.Path("/var/spool/postfix/"+path)
	}
	conn, err := w.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(dialTime))
}

// client is one side of an SMTP session that writes both down.
type client struct {
	conn  net.Conn
	r     *textproto.Reader
	both  strings.Builder
	ended bool
}

// talk speaks SMTP line by line and returns both sides. "DATA" is followed by
// the message itself, given as one element that ends in "\r\n.\r\n"; an
// element that starts with "BDAT" is sent as it is; after "STARTTLS" TLS is
// started. The rest is left out when the server says 421.
func talk(w *world.World, address string, lines ...string) (string, error) {
	conn, err := dial(w, address)
	if err != nil {
		return "", err
	}
	c := &client{conn: conn, r: textproto.NewReader(bufio.NewReader(conn))}
	defer func() { c.conn.Close() }()
	if err := c.reply(); err != nil {
		return c.both.String(), err
	}
	for _, line := range lines {
		if c.ended {
			break
		}
		if err := c.say(line); err != nil {
			return c.both.String(), err
		}
	}
	return c.both.String(), nil
}

func (c *client) say(line string) error {
	shown, _, _ := strings.Cut(line, "\r\n")
	fmt.Fprintf(&c.both, "C: %.60s\n", shown)
	if !strings.HasSuffix(line, "\r\n.\r\n") && !strings.HasPrefix(line, "BDAT") {
		line += "\r\n"
	}
	if _, err := io.WriteString(c.conn, line); err != nil {
		return err
	}
	if err := c.reply(); err != nil {
		return err
	}
	if line != "STARTTLS\r\n" {
		return nil
	}
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		return fmt.Errorf("%w\n%s", err, c.both.String())
	}
	c.conn, c.r = secure, textproto.NewReader(bufio.NewReader(secure))
	return nil
}

func (c *client) reply() error {
	code, text, err := c.r.ReadResponse(0)
	var bad *textproto.Error
	if err != nil && !errors.As(err, &bad) {
		return fmt.Errorf("%w\n%s", err, c.both.String())
	}
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(&c.both, "S: %d %s\n", code, line)
	}
	c.ended = code == 421
	return nil
}
