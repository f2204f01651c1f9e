// Package haproxy reads the header that a load balancer puts before a session,
// PROXY protocol versions 1 and 2 (spec smtpd.md §1.1).
package haproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/wire/dns"
	"posthaste/pkg/wire/smtp"
)

// ErrTimeout is returned when no header came in time.
var ErrTimeout = errors.New("timeout error")

// maxHeader is how much of the connection is looked at for a PROXY
// header, which has to arrive in one piece: a header of version 1 has at most
// 107 bytes, one of version 2 its addresses and some options (spec smtpd.md
// §1.1).
const maxHeader = 536

// signature begins a header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// Header is what a PROXY header says.
type Header struct {
	Local                  bool // the load balancer speaks for itself
	Client, Server         netip.Addr
	ClientPort, ServerPort string
}

// Read reads the header from a connection and consumes exactly it. It waits up
// to timeout for input; whether an address of a family is accepted is said by
// ipv4 and ipv6. Errors are worded for the log.
func Read(nc net.Conn, timeout time.Duration, ipv4, ipv6 bool) (Header, error) {
	header, n, err := read(nc, timeout, ipv4, ipv6)
	if err != nil {
		return header, err
	}
	if _, err := io.ReadFull(nc, make([]byte, n)); err != nil { // it is there already
		return header, errors.New("EOF")
	}
	nc.SetReadDeadline(time.Time{})
	return header, nil
}

// read waits for input, looks at it without taking it and tells what the header
// says and how long it is.
func read(nc net.Conn, timeout time.Duration, ipv4, ipv6 bool) (Header, int, error) {
	data, err := peekOnce(nc, timeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Header{}, 0, ErrTimeout
	case err != nil || len(data) == 0:
		return Header{}, 0, errors.New("EOF")
	}
	header, n, text := parse(data, ipv4, ipv6)
	if text != "" {
		return header, n, fmt.Errorf("%s: %s", text, smtp.Escape(data))
	}
	return header, n, nil
}

// peekOnce waits until something is there and returns it without consuming
// it.
func peekOnce(nc net.Conn, timeout time.Duration) ([]byte, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	nc.SetReadDeadline(time.Now().Add(timeout))
	buf := make([]byte, maxHeader)
	n := 0
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK)
		return failed != syscall.EAGAIN
	})
	if err != nil {
		if timedOut(err) {
			return nil, context.DeadlineExceeded
		}
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return buf[:max(n, 0)], nil
}

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// parse understands both versions. n is the length of the header;
// text is what is wrong with it.
func parse(data []byte, ipv4, ipv6 bool) (p Header, n int, text string) {
	if len(data) >= len(signature) && string(data[:len(signature)]) == signature {
		return parseV2(data, ipv4, ipv6)
	}
	return parseV1(data, ipv4, ipv6)
}

func parseV1(data []byte, ipv4, ipv6 bool) (p Header, n int, text string) {
	if len(data) < len(signature) {
		return p, 0, "short protocol header"
	}
	if !bytes.HasPrefix(data, []byte("PROXY ")) {
		return p, 0, "unrecognized protocol header"
	}
	line, _, ok := bytes.Cut(data, []byte("\n"))
	if !ok || bytes.IndexByte(line, 0) >= 0 {
		return p, 0, "missing protocol header terminator"
	}
	words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\r' })
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	var v6 bool
	switch strings.ToUpper(word(1)) {
	case "TCP4":
		if !ipv4 {
			return p, 0, "bad or missing protocol type"
		}
	case "TCP6":
		if v6 = true; !ipv6 {
			return p, 0, "bad or missing protocol type"
		}
	default:
		return p, 0, "bad or missing protocol type"
	}
	if p.Client, ok = proxyAddr(word(2), v6); !ok {
		return p, 0, "bad or missing client address"
	}
	if p.Server, ok = proxyAddr(word(3), v6); !ok {
		return p, 0, "bad or missing server address"
	}
	if p.ClientPort = word(4); !validPort(p.ClientPort) {
		return p, 0, "bad or missing client port"
	}
	if p.ServerPort = word(5); !validPort(p.ServerPort) {
		return p, 0, "bad or missing server port"
	}
	return p, len(line) + 1, ""
}

func proxyAddr(text string, v6 bool) (netip.Addr, bool) {
	a, ok := dns.ParseAddr(text)
	return a, ok && a.Is6() == v6 && a.Zone() == ""
}

func validPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil && (text[0] != '0' || text == "0")
}

// parseV2 reads the binary form: signature, version and command, family
// and type, length, addresses, options (which are skipped).
func parseV2(data []byte, ipv4, ipv6 bool) (p Header, n int, text string) {
	const fixed = len(signature) + 4
	if len(data) < fixed {
		return p, 0, "short protocol header"
	}
	verb, family := data[len(signature)], data[len(signature)+1]
	length := int(binary.BigEndian.Uint16(data[fixed-2:]))
	if verb>>4 != 2 {
		return p, 0, "unrecognized protocol version"
	}
	if len(data)-fixed < length {
		return p, 0, "short version 2 protocol header"
	}
	n = fixed + length
	switch verb & 15 {
	case 0:
		return Header{Local: true}, n, ""
	case 1:
	default:
		return p, 0, "bad command in proxy header"
	}
	size, enabled, off := 0, false, ""
	switch family {
	case 0x11:
		size, enabled, off = 4, ipv4, "Postfix IPv4 support is disabled"
	case 0x21:
		size, enabled, off = 16, ipv6, "Postfix IPv6 support is disabled"
	default:
		return p, 0, "unsupported network protocol"
	}
	if !enabled {
		return p, 0, off
	}
	if length < 2*size+4 {
		return p, 0, "short address field"
	}
	body := data[fixed:]
	p.Client, _ = netip.AddrFromSlice(body[:size])
	p.Server, _ = netip.AddrFromSlice(body[size : 2*size])
	p.ClientPort = strconv.Itoa(int(binary.BigEndian.Uint16(body[2*size:])))
	p.ServerPort = strconv.Itoa(int(binary.BigEndian.Uint16(body[2*size+2:])))
	return p, n, ""
}
