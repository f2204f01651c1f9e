package conf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// network is what this machine's interfaces look like to the mail system.
type network struct {
	v4, v6    bool // enabled protocols
	addresses []netip.Prefix
}

// Protocols says which address families inet_protocols enables, as far as the
// kernel has them.
func (c *Config) Protocols() (v4, v6 bool) { return c.network.v4, c.network.v6 }

// Addresses returns the own addresses that inet_interfaces selects, with their
// netmasks, IPv4 first. They were found when the configuration was loaded.
func (c *Config) Addresses() []netip.Prefix { return c.network.addresses }

// resolveLimit bounds the look-up of one name in inet_interfaces.
const resolveLimit = 30 * time.Second

func (c *Config) protocols() error {
	value, err := c.str(mustKnow("inet_protocols"))
	if err != nil {
		return err
	}
	for _, word := range Fields(value) {
		switch strings.ToLower(word) {
		case "all":
			c.network.v4, c.network.v6 = true, true
		case "ipv4":
			c.network.v4 = true
		case "ipv6":
			c.network.v6 = true
		default:
			return fmt.Errorf(`unknown inet_protocols value "%s" in "%s"`, word, value)
		}
	}
	c.network.v4 = c.network.v4 && c.kernelHas(unix.AF_INET, "IPv4")
	c.network.v6 = c.network.v6 && c.kernelHas(unix.AF_INET6, "IPv6")
	return nil
}

// kernelHas reports whether a socket of the family can be made.
func (c *Config) kernelHas(family int, name string) bool {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return true
	}
	if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return true
	}
	c.warn("inet_protocols: disabling %s name/address support: %s", name, Reason(err))
	return false
}

// interfaces finds the own addresses (spec config.md 1.11, inet_interfaces).
func (c *Config) interfaces() error {
	value, err := c.str(mustKnow("inet_interfaces"))
	if err != nil {
		return err
	}
	if !c.network.v4 && !c.network.v6 {
		return nil
	}
	all, err := c.active()
	if err != nil {
		return err
	}
	switch words := Fields(value); {
	case strings.EqualFold(value, "all"):
		c.network.addresses = all
	case strings.EqualFold(value, "loopback-only"):
		for _, p := range all {
			if p.Addr().IsLoopback() {
				c.network.addresses = append(c.network.addresses, p)
			}
		}
	default:
		for _, word := range words {
			if err := c.addHost(word, all); err != nil {
				return err
			}
		}
		return nil
	}
	if len(c.network.addresses) == 0 {
		return errors.New("could not find any active network interfaces")
	}
	return nil
}

// active returns the addresses of all interfaces that are up.
func (c *Config) active() ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("inet_interfaces: %w", err)
	}
	var v4, v6 []netip.Prefix
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue // the interface is gone
		}
		for _, a := range addresses {
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil:
			case p.Addr().Is4() && c.network.v4 && !p.Addr().IsUnspecified():
				v4 = append(v4, p)
			case p.Addr().Is6() && c.network.v6:
				v6 = append(v6, p)
			}
		}
	}
	return append(v4, v6...), nil
}

// addHost adds the local addresses that host has.
func (c *Config) addHost(host string, local []netip.Prefix) error {
	name := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	addr, err := netip.ParseAddr(name)
	found := []netip.Addr{addr}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
		defer cancel()
		if found, err = net.DefaultResolver.LookupNetIP(ctx, c.family(), name); err != nil || len(found) == 0 {
			return fmt.Errorf("config variable inet_interfaces: host not found: %s", host)
		}
	}
	for _, a := range found {
		a, ok := a.Unmap(), false
		for _, p := range local {
			if p.Addr().WithZone("") == a.WithZone("") {
				c.network.addresses = append(c.network.addresses, p)
				ok = true
				break
			}
		}
		if !ok {
			return fmt.Errorf("parameter inet_interfaces: no local interface found for %s", a)
		}
	}
	return nil
}

func (c *Config) family() string {
	switch {
	case !c.network.v6:
		return "ip4"
	case !c.network.v4:
		return "ip6"
	}
	return "ip"
}

// myNetworks computes the default of mynetworks.
func (c *Config) myNetworks() (string, error) {
	value, err := c.str(mustKnow("mynetworks_style"))
	if err != nil {
		return "", err
	}
	words := Fields(value)
	for _, w := range words {
		switch strings.ToLower(w) {
		case "class", "subnet", "host":
		default:
			return "", fmt.Errorf(`unknown mynetworks mask style value "%s" in "%s"`, w, value)
		}
	}
	if len(words) != 1 {
		return "", fmt.Errorf("bad mynetworks_style value: %s; specify exactly one value", value)
	}
	return networkList(c.network.addresses, strings.ToLower(words[0])), nil
}

// networkList writes networks as "NET/LEN " or "[NET]/LEN ", each once.
func networkList(addresses []netip.Prefix, style string) string {
	var out strings.Builder
	seen := map[netip.Prefix]bool{}
	for _, p := range addresses {
		addr, bits := p.Addr().WithZone(""), p.Bits()
		switch {
		case style == "host":
			bits = addr.BitLen()
		case style == "class" && addr.Is4():
			bits = classBits(addr)
		}
		network := netip.PrefixFrom(addr, bits).Masked()
		if seen[network] {
			continue
		}
		seen[network] = true
		if addr.Is4() {
			fmt.Fprintf(&out, "%s/%d ", network.Addr(), bits)
		} else {
			fmt.Fprintf(&out, "[%s]/%d ", network.Addr(), bits)
		}
	}
	return out.String()
}

// classBits is the length of the network part before there was CIDR.
func classBits(addr netip.Addr) int {
	switch first := addr.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	case first < 224:
		return 24
	}
	return 4
}
