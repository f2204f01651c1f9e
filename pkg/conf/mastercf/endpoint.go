package mastercf

import (
	"errors"
	"net/netip"
	"strings"

	"posthaste/pkg/conf"
)

// SplitEndpoint splits the name of an inet service: host:port, [host]:port,
// [ipv6:ADDR]:port, :port or port. An empty host means the addresses of
// inet_interfaces. The errors are those of spec master.md 2.5.
func SplitEndpoint(name string) (host, port string, err error) {
	bad := func(text string) error { return errors.New(text + ` in "` + name + `"`) }
	noHost := false
	switch {
	case strings.HasPrefix(name, "["):
		end := strings.IndexByte(name, ']')
		if end < 0 {
			return "", "", bad(`missing "]"`)
		}
		host, port = name[1:end], name[end+1:]
		if port != "" && port[0] != ':' {
			return "", "", bad(`garbage after "]"`)
		}
		port = strings.TrimPrefix(port, ":")
		if len(host) >= 5 && strings.EqualFold(host[:5], "ipv6:") {
			host = host[5:]
			if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
				return "", "", bad("malformed IPv6 address")
			}
		}
	default:
		if i := strings.LastIndexByte(name, ':'); i >= 0 {
			host, port = name[:i], name[i+1:]
			noHost = host == ""
		} else {
			port, noHost = name, true
		}
	}
	if port == "" {
		return "", "", bad("missing service information")
	}
	if _, err := netip.ParseAddr(host); !noHost && err != nil && conf.CheckHostname(host) != nil {
		return "", "", bad("valid hostname or network address required")
	}
	if port[0] >= '0' && port[0] <= '9' && strings.Trim(port, "0123456789") != "" {
		return "", "", bad("garbage after numerical service")
	}
	return host, port, nil
}
