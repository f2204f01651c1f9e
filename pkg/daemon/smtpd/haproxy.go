package smtpd

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

// maxProxyHeader is how much of the connection is looked at for a PROXY
// header, which has to arrive in one piece: a header of version 1 has at most
// 107 bytes, one of version 2 its addresses and some options (spec smtpd.md
// §1.1).
const maxProxyHeader = 536

// proxySignature begins a header of version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// proxied is what a PROXY header says.
type proxied struct {
	local                  bool // the load balancer speaks for itself
	client, server         netip.Addr
	clientPort, serverPort string
}

// proxyHeader reads the header that a load balancer puts before the session
// (smtpd_upstream_proxy_protocol = haproxy). After an error, which has been
// logged, the peer is the socket's.
func (srv *Server) proxyHeader(nc net.Conn) (peer, error) {
	p, err := srv.endpoint(nc, nil)
	header, n, err := readProxyHeader(nc, srv.set.upstreamTimeout, srv.set.ipv4, srv.set.ipv6, err)
	if err != nil {
		srv.log.Warn("haproxy read: %v", err)
		return p, err
	}
	if _, err := io.ReadFull(nc, make([]byte, n)); err != nil { // it is there already
		srv.log.Warn("haproxy read: EOF")
		return p, err
	}
	nc.SetReadDeadline(time.Time{})
	if header.local {
		return p, nil
	}
	p = peer{name: unknown, reverse: unknown, nameStatus: namePermanent, reverseStat: namePermanent,
		port: header.clientPort, serverAddr: header.server.Unmap().String(), serverPort: header.serverPort}
	p.setAddr(header.client)
	return p, nil
}

// readProxyHeader waits for input, looks at it without taking it and tells
// what the header says and how long it is.
func readProxyHeader(nc net.Conn, timeout time.Duration, ipv4, ipv6 bool, err error) (proxied, int, error) {
	if err != nil {
		return proxied{}, 0, err
	}
	data, err := peekOnce(nc, timeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return proxied{}, 0, errors.New("timeout error")
	case err != nil || len(data) == 0:
		return proxied{}, 0, errors.New("EOF")
	}
	header, n, text := parseProxyHeader(data, ipv4, ipv6)
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
	buf := make([]byte, maxProxyHeader)
	n := 0
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK)
		return failed != syscall.EAGAIN
	})
	if err != nil {
		if smtpTimeout(err) {
			return nil, context.DeadlineExceeded
		}
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return buf[:max(n, 0)], nil
}

func smtpTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// parseProxyHeader understands both versions. n is the length of the header;
// text is what is wrong with it.
func parseProxyHeader(data []byte, ipv4, ipv6 bool) (p proxied, n int, text string) {
	if len(data) >= len(proxySignature) && string(data[:len(proxySignature)]) == proxySignature {
		return parseProxyV2(data, ipv4, ipv6)
	}
	return parseProxyV1(data, ipv4, ipv6)
}

func parseProxyV1(data []byte, ipv4, ipv6 bool) (p proxied, n int, text string) {
	if len(data) < len(proxySignature) {
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
	if p.client, ok = proxyAddr(word(2), v6); !ok {
		return p, 0, "bad or missing client address"
	}
	if p.server, ok = proxyAddr(word(3), v6); !ok {
		return p, 0, "bad or missing server address"
	}
	if p.clientPort = word(4); !validPort(p.clientPort) {
		return p, 0, "bad or missing client port"
	}
	if p.serverPort = word(5); !validPort(p.serverPort) {
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

// parseProxyV2 reads the binary form: signature, version and command, family
// and type, length, addresses, options (which are skipped).
func parseProxyV2(data []byte, ipv4, ipv6 bool) (p proxied, n int, text string) {
	const fixed = len(proxySignature) + 4
	if len(data) < fixed {
		return p, 0, "short protocol header"
	}
	verb, family := data[len(proxySignature)], data[len(proxySignature)+1]
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
		return proxied{local: true}, n, ""
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
	p.client, _ = netip.AddrFromSlice(body[:size])
	p.server, _ = netip.AddrFromSlice(body[size : 2*size])
	p.clientPort = strconv.Itoa(int(binary.BigEndian.Uint16(body[2*size:])))
	p.serverPort = strconv.Itoa(int(binary.BigEndian.Uint16(body[2*size+2:])))
	return p, n, ""
}
