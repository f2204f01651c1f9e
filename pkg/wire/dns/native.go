package dns

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
)

func hexBytes(s string) ([]byte, error) { return hex.DecodeString(s) }

// Native asks the system's host database (hosts file, NSS).
type Native interface {
	// Addrs returns the addresses of a host, of the families asked for; the
	// error is a *NativeError.
	Addrs(ctx context.Context, host string, ipv4, ipv6 bool) ([]netip.Addr, error)
	// Name returns the name of an address; the error is a *NativeError.
	Name(ctx context.Context, addr netip.Addr) (string, error)
}

// NativeError is a failed lookup in the host database, with the C library's
// words for it.
type NativeError struct {
	Temporary bool   // EAI_AGAIN, EAI_MEMORY, EAI_SYSTEM
	Text      string // "Name or service not known", ...
}

func (e *NativeError) Error() string { return e.Text }

// The C library's texts (gai_strerror).
const (
	gaiNoName = "Name or service not known"
	gaiAgain  = "Temporary failure in name resolution"
	gaiNoData = "No address associated with hostname"
)

// System is the Native of this machine.
type System struct{}

// Addrs implements Native.
func (System) Addrs(ctx context.Context, host string, ipv4, ipv6 bool) ([]netip.Addr, error) {
	network := "ip"
	switch {
	case ipv4 && !ipv6:
		network = "ip4"
	case ipv6 && !ipv4:
		network = "ip6"
	}
	// The final dot keeps the search list out of it, as Postfix does with
	// RES_DEFNAMES and RES_DNSRCH off; names without dots need the system's way.
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, nativeError(err, gaiNoName)
	}
	out := addrs[:0]
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() && ipv4 || a.Is6() && ipv6 {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, &NativeError{Text: gaiNoData}
	}
	return out, nil
}

// Name implements Native.
func (System) Name(ctx context.Context, addr netip.Addr) (string, error) {
	names, err := net.DefaultResolver.LookupAddr(ctx, addr.String())
	if err != nil {
		return "", nativeError(err, gaiNoName)
	}
	if len(names) == 0 {
		return "", &NativeError{Text: gaiNoName}
	}
	return strings.TrimSuffix(names[0], "."), nil
}

func nativeError(err error, missing string) error {
	var e *net.DNSError
	if errors.As(err, &e) && e.IsNotFound && !e.IsTemporary && !e.IsTimeout {
		return &NativeError{Text: missing}
	}
	return &NativeError{Temporary: true, Text: gaiAgain}
}
