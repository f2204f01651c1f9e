package table

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/sys/maillog"
)

// Limits of the socketmap protocol (config.md 3.13).
const (
	socketmapTimeout  = 100 * time.Second
	socketmapIdle     = 10 * time.Second
	socketmapTTL      = 100 * time.Second
	socketmapMaxReply = 100000
)

// socketmap asks a server with netstrings.
type socketmap struct {
	log                    *maillog.Logger
	spec                   string
	network, address, name string

	serverConn
	born, used time.Time
}

func openSocketmap(env Env, req Request) (Backend, error) {
	if req.Flags&NoUnauth != 0 {
		return nil, fmt.Errorf("%s map is not allowed for security-sensitive data", req.Spec)
	}
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	i := strings.LastIndexByte(req.Name, ':')
	if i < 0 || i == len(req.Name)-1 {
		return nil, errors.New("socketmap requires server:socketmap argument")
	}
	s := &socketmap{log: env.Log, spec: req.Spec, name: req.Name[i+1:]}
	kind, address, ok := strings.Cut(req.Name[:i], ":")
	s.address = address
	switch {
	case ok && kind == "inet":
		s.network = "tcp"
	case ok && kind == "unix":
		s.network = "unix"
	default:
		return nil, fmt.Errorf("invalid transport name: %s in %s", kind, req.Spec)
	}
	return s, nil
}

func (s *socketmap) Flags() Flags { return Pattern }

func (s *socketmap) Get(ctx context.Context, key string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.conn != nil && (now.Sub(s.used) > socketmapIdle || now.Sub(s.born) > socketmapTTL) {
		s.drop()
	}
	cached := s.conn != nil
	reply, err := s.exchange(ctx, key)
	if err != nil && cached {
		s.drop()
		reply, err = s.exchange(ctx, key)
	}
	if err != nil {
		s.drop()
		s.log.Warn("table %s lookup error: %s", s.spec, err)
		return "", false, RetryError(err)
	}
	s.used = time.Now()
	return s.interpret(reply)
}

func (s *socketmap) interpret(reply string) (string, bool, error) {
	status, text, hasText := strings.Cut(reply, " ")
	problem := func(kind string, wrap func(error) error) (string, bool, error) {
		s.log.Warn("%s socketmap server %s error: %s", s.spec, kind, text)
		return "", false, wrap(errors.New(text))
	}
	switch status {
	case "OK":
		return text, hasText, nil
	case "NOTFOUND":
		return "", false, nil
	case "TEMP":
		text = strings.TrimLeft(text, space)
		return problem("temporary", RetryError)
	case "TIMEOUT":
		text = strings.TrimLeft(text, space)
		return problem("timeout", RetryError)
	case "PERM":
		text = strings.TrimLeft(text, space)
		return problem("permanent", ConfigError)
	}
	text = reply
	return problem("unknown", RetryError)
}

func (s *socketmap) exchange(ctx context.Context, key string) (string, error) {
	if s.conn == nil {
		d := net.Dialer{Timeout: socketmapTimeout}
		conn, err := d.DialContext(ctx, s.network, s.address)
		if err != nil {
			s.log.Warn("connect to %s: %s", s.address, Reason(err))
			return "", maillog.Errno(err)
		}
		s.conn, s.r, s.born = conn, bufio.NewReader(conn), time.Now()
	}
	defer s.limit(ctx, socketmapTimeout)()
	request := s.name + " " + key
	_, err := io.WriteString(s.conn, strconv.Itoa(len(request))+":"+request+",")
	if err == nil {
		var reply string
		if reply, err = readNetstring(s.r, socketmapMaxReply); err == nil {
			return reply, nil
		}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", errors.New("time limit exceeded")
	case errors.Is(err, errNetstringFormat), errors.Is(err, errNetstringSize):
		return "", err
	}
	return "", errors.New("unexpected disconnect")
}

var (
	errNetstringFormat = errors.New("input format error")
	errNetstringSize   = errors.New("input exceeds size limit")
)

// readNetstring reads "LENGTH:DATA,".
func readNetstring(r *bufio.Reader, limit int) (string, error) {
	n, digits := 0, 0
	for {
		c, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		if c == ':' && digits > 0 {
			break
		}
		if c < '0' || c > '9' {
			return "", errNetstringFormat
		}
		if digits++; digits > 9 {
			return "", errNetstringSize
		}
		n = n*10 + int(c-'0')
	}
	if n > limit {
		return "", errNetstringSize
	}
	data := make([]byte, n+1)
	if _, err := io.ReadFull(r, data); err != nil {
		return "", err
	}
	if data[n] != ',' {
		return "", errNetstringFormat
	}
	return string(data[:n]), nil
}
