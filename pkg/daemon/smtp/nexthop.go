package smtp

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/wire/dns"
)

// destination is one element of a next hop (delivery.md §2.2).
type destination struct {
	text     string // as written
	unix     string // path of a socket; the other fields are empty then
	host     string // without brackets and port
	port     uint16
	literal  bool // in brackets: no MX lookup
	fallback bool // from the list of fallback relays
}

// destinations splits a next hop and appends the fallback relays. Only lmtp
// knows the prefixes unix: and inet:.
func (d *daemon) destinations(nexthop string) ([]destination, error) {
	if d.lmtp {
		if path, ok := strings.CutPrefix(nexthop, "unix:"); ok {
			if len(d.fallback) > 0 {
				d.log.Warn("ignoring \"%sfallback_relay = %s\" setting for non-TCP connections", d.prefix, strings.Join(d.fallback, " "))
			}
			return []destination{{text: path, unix: path, host: path}}, nil
		}
		nexthop = strings.TrimPrefix(nexthop, "inet:")
	}
	var list []destination
	for i, words := range [][]string{conf.Fields(nexthop), d.fallback} {
		for _, w := range words {
			dest, err := parseDestination(w, d.tcpPort, d.knownPorts)
			if err != nil {
				return nil, err
			}
			dest.fallback = i == 1
			list = append(list, dest)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("empty nexthop hostname")
	}
	return list, nil
}

func parseDestination(text, defaultPort string, known map[string]string) (destination, error) {
	d := destination{text: text}
	bad := func(what string) (destination, error) {
		return d, fmt.Errorf("%s in server description: %s", what, text)
	}
	rest, service, hasService := text, "", false
	if strings.HasPrefix(text, "[") {
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return bad(`missing "]"`)
		}
		d.literal = true
		d.host, rest = text[1:end], text[end+1:]
		if rest != "" && rest[0] != ':' {
			return bad(`garbage after "]"`)
		}
		service, hasService = strings.CutPrefix(rest, ":")
		if len(d.host) > 5 && strings.EqualFold(d.host[:5], "IPv6:") {
			d.host = d.host[5:]
			if a, ok := dns.ParseAddr(d.host); !ok || !a.Is6() {
				return bad("malformed IPv6 address")
			}
		}
	} else {
		d.host, service, hasService = cutLast(rest, ':')
	}
	if d.host == "" {
		return bad("missing host information")
	}
	if !hasService || service == "" {
		service = defaultPort
	}
	if ascii, ok := dns.ASCII(d.host); !ok || !dns.ValidHostname(ascii) {
		if _, ok := dns.ParseAddr(d.host); !ok {
			return bad("valid hostname or network address required")
		}
	}
	port, err := findPort(service, text, known)
	d.port = port
	return d, err
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func findPort(service, text string, known map[string]string) (uint16, error) {
	if p, ok := known[service]; ok {
		service = p
	}
	if service != "" && service[0] >= '0' && service[0] <= '9' {
		if strings.Trim(service, "0123456789") != "" {
			return 0, fmt.Errorf("garbage after numerical service in server description: %s", text)
		}
		n, err := strconv.ParseUint(service, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("bad network port: %s for destination: %s", service, text)
		}
		return uint16(n), nil
	}
	n, err := net.LookupPort("tcp", service)
	if err != nil || n <= 0 || n > 65535 {
		return 0, fmt.Errorf("unknown service: %s/tcp", service)
	}
	return uint16(n), nil
}
