package table

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"posthaste/pkg/sys/maillog"
)

// Limits of the tcp table protocol (config.md 3.13).
const (
	tcpTimeout  = 100 * time.Second
	tcpMaxReply = 4096
	tcpTries    = 10
	tcpPause    = time.Second
)

// tcpTable asks a server line by line over one connection.
type tcpTable struct {
	log  *maillog.Logger
	name string

	serverConn
}

func openTCP(env Env, req Request) (Backend, error) {
	if req.Flags&NoUnauth != 0 {
		return nil, fmt.Errorf("%s map is not allowed for security sensitive data", req.Spec)
	}
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	return &tcpTable{log: env.Log, name: req.Name}, nil
}

func (t *tcpTable) Flags() Flags { return Pattern }

func (t *tcpTable) Get(ctx context.Context, key string) (string, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var line string
	var err error
	for try := 1; ; try++ {
		if line, err = t.exchange(ctx, key); err == nil {
			break
		}
		t.drop()
		t.log.Warn("%s", err)
		if try == tcpTries {
			return "", false, RetryError(err)
		}
		select {
		case <-ctx.Done():
			return "", false, RetryError(ctx.Err())
		case <-time.After(tcpPause):
		}
	}
	code, rest, _ := strings.Cut(line, " ")
	if len(code) != 3 || strings.Trim(code, "0123456789") != "" {
		t.drop()
		err := fmt.Errorf("read TCP map reply from %s: malformed reply: %.100s", t.name, line)
		t.log.Warn("%s", err)
		return "", false, RetryError(err)
	}
	value, ok := unquotePercent(rest)
	switch {
	case ok && code[0] == '2':
		return value, true, nil
	case ok && code[0] == '5':
		return "", false, nil
	case ok && code[0] == '4':
		t.drop()
		return "", false, RetryError(errors.New(value))
	}
	t.drop()
	err = fmt.Errorf("read TCP map reply from %s: bad status code: %.100s", t.name, line)
	if !ok {
		err = fmt.Errorf("read TCP map reply from %s: malformed reply: %.100s", t.name, line)
	}
	t.log.Warn("%s", err)
	return "", false, RetryError(err)
}

func (t *tcpTable) exchange(ctx context.Context, key string) (string, error) {
	if t.conn == nil {
		d := net.Dialer{Timeout: tcpTimeout}
		conn, err := d.DialContext(ctx, "tcp", t.name)
		if err != nil {
			return "", fmt.Errorf("connect to TCP map %s: %s", t.name, Reason(err))
		}
		t.conn, t.r = conn, bufio.NewReaderSize(conn, tcpMaxReply)
	}
	defer t.limit(ctx, tcpTimeout)()
	if _, err := io.WriteString(t.conn, "get "+quotePercent(key)+"\n"); err != nil {
		return "", fmt.Errorf("write TCP map request to %s: %s", t.name, Reason(err))
	}
	line, err := t.r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return "", fmt.Errorf("read TCP map reply from %s: text longer than %d", t.name, tcpMaxReply)
	case err == io.EOF:
		return "", fmt.Errorf("read TCP map reply from %s: unexpected EOF (Success)", t.name)
	case err != nil:
		return "", fmt.Errorf("read TCP map reply from %s: unexpected EOF (%s)", t.name, Reason(err))
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// quotePercent writes non-printing bytes, white space and "%" as %XX.
func quotePercent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unquotePercent(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		high, low := strings.IndexByte(hexDigits, s[i+1]|0x20), strings.IndexByte(hexDigits, s[i+2]|0x20)
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), true
}

const hexDigits = "0123456789abcdef"
