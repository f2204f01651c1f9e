package smtpd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/wire/dns"
)

// nameStatus is the outcome of a client name lookup: 2, 4, 5, 6 as in policy
// and milter macros (spec smtpd.md §1.1).
type nameStatus byte

const (
	nameOK        nameStatus = 2
	nameTemporary nameStatus = 4
	namePermanent nameStatus = 5
	nameForged    nameStatus = 6
)

const unknown = "unknown"

// peer is the client as the session knows it; XCLIENT replaces it.
type peer struct {
	name, reverse           string
	addr                    string // bare address
	port                    string
	serverAddr, serverPort  string
	nameStatus, reverseStat nameStatus
	family                  int    // AF_INET, AF_INET6; 0 for a local or unknown client
	namaddr                 string // name[addr] or name[addr]:port, for logs
}

// rfcAddr is the address with the IPv6: prefix of RFC 5321.
func (p *peer) rfcAddr() string {
	if strings.Contains(p.addr, ":") {
		return "IPv6:" + p.addr
	}
	return p.addr
}

// setNamaddr updates namaddr after a change.
func (p *peer) setNamaddr(port bool) {
	p.namaddr = p.name + "[" + p.addr + "]"
	if port {
		p.namaddr += ":" + p.port
	}
}

// setAddr sets address and family; a mapped address is the IPv4 address.
func (p *peer) setAddr(a netip.Addr) {
	a = a.Unmap().WithZone("")
	p.addr, p.family = a.String(), syscall.AF_INET
	if a.Is6() {
		p.family = syscall.AF_INET6
	}
}

// localPeer is the client on a pipe or a local socket.
func localPeer(ipv4 bool) peer {
	p := peer{name: "localhost", reverse: "localhost", addr: "127.0.0.1", port: "0", serverPort: "0", nameStatus: nameOK, reverseStat: nameOK}
	if !ipv4 {
		p.addr = "::1"
	}
	p.serverAddr = p.addr
	return p
}

// endpoint finds out who is at the other end. Attributes that came with a
// passed descriptor win (spec §1.1, ipc.md §2.17).
func (srv *Server) endpoint(nc net.Conn, attrs map[string]string) (peer, error) {
	if len(attrs) > 0 {
		return passedPeer(attrs)
	}
	remote, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return localPeer(srv.set.ipv4), nil
	}
	p := peer{name: unknown, reverse: unknown, nameStatus: namePermanent, reverseStat: namePermanent, port: strconv.Itoa(remote.Port)}
	p.setAddr(remote.AddrPort().Addr())
	p.serverAddr, p.serverPort = unknown, unknown
	if local, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		p.serverAddr, p.serverPort = local.AddrPort().Addr().Unmap().WithZone("").String(), strconv.Itoa(local.Port)
	}
	if p.family == syscall.AF_INET && !srv.set.ipv4 || p.family == syscall.AF_INET6 && !srv.set.ipv6 {
		family := "AF_INET"
		if p.family == syscall.AF_INET6 {
			family = "AF_INET6"
		}
		return p, fmt.Errorf("cannot handle socket type %s with \"inet_protocols = %s\"", family, srv.set.protocols)
	}
	return p, nil
}

// passedPeer reads the endpoint that postscreen handed over.
func passedPeer(attrs map[string]string) (peer, error) {
	p := peer{name: unknown, reverse: unknown, nameStatus: namePermanent, reverseStat: namePermanent}
	for _, side := range []struct {
		name     string
		addr     *string
		port     *string
		isClient bool
	}{{"client", &p.addr, &p.port, true}, {"server", &p.serverAddr, &p.serverPort, false}} {
		text := attrs[side.name+"_address"]
		if text == "" {
			return p, fmt.Errorf("missing %s address from proxy", side.name)
		}
		a, ok := dns.ParseAddr(text)
		if !ok {
			kind := "IPv4"
			if strings.Contains(text, ":") {
				kind = "IPv6"
			}
			return p, fmt.Errorf("bad %s %s address syntax from proxy: %s", kind, side.name, text)
		}
		if side.isClient {
			p.setAddr(a)
		} else {
			*side.addr = a.Unmap().String()
		}
		if *side.port = attrs[side.name+"_port"]; *side.port == "" {
			return p, fmt.Errorf("missing %s port from proxy", side.name)
		}
		if n, err := strconv.ParseUint(*side.port, 10, 16); err != nil || n > 65535 {
			return p, fmt.Errorf("bad TCP %s port number syntax from proxy: %s", side.name, *side.port)
		}
	}
	return p, nil
}

// lookupName finds the client's name and verifies it by the table in §1.1.
func (srv *Server) lookupName(ctx context.Context, p *peer) {
	if p.family == 0 || !srv.set.peernameLookup {
		return
	}
	addr, err := netip.ParseAddr(p.addr)
	if err != nil {
		return
	}
	status := func(err error, otherwise nameStatus) nameStatus {
		if e, ok := err.(*dns.NativeError); ok && e.Temporary {
			return nameTemporary
		}
		return otherwise
	}
	name, err := srv.native.Name(ctx, addr)
	if err == nil {
		if _, numeric := dns.ParseAddr(name); numeric {
			srv.log.Warn("numeric hostname: %s", name)
			err = &dns.NativeError{}
		} else if bad := dns.CheckHostname(name); bad != nil {
			srv.log.Warn("%v", bad)
			err = &dns.NativeError{}
		}
	}
	if err != nil {
		p.nameStatus = status(err, namePermanent)
		p.reverseStat = p.nameStatus
		return
	}
	p.reverse, p.reverseStat = name, nameOK
	addrs, err := srv.native.Addrs(ctx, name, p.family == syscall.AF_INET, p.family == syscall.AF_INET6)
	if err != nil {
		srv.log.Warn("hostname %s does not resolve to address %s: %v", name, p.addr, err)
		p.nameStatus = status(err, nameForged)
		return
	}
	for _, a := range addrs {
		if a == addr {
			p.name, p.nameStatus = name, nameOK
			return
		}
	}
	srv.log.Warn("hostname %s does not resolve to address %s", name, p.addr)
	p.nameStatus = nameForged
}
