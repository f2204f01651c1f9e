// Package tlsproxy is the protocol in which a program hands a network
// connection to tlsproxy, to have TLS spoken on it (spec ipc.md §2.12). When
// the socket has been passed and the handshake is done, the client reads and
// writes plaintext on its connection to tlsproxy.
package tlsproxy

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"posthaste/pkg/ipc/attr"
	mailtls "posthaste/pkg/wire/tls"
)

// Protocol is what the server announces.
const Protocol = "tlsproxy_protocol"

// Flags of a request.
const (
	ServerRole  = 1 // the peer is a TLS client
	ClientRole  = 2 // the peer is a TLS server
	SendContext = 4 // tell what the handshake led to
)

// Statuses.
const (
	Unavailable = 0
	Ready       = 1
)

// Limits of a request.
const (
	maxMatch = 1000 // patterns for the server's name
	maxTLSA  = 100
)

// Request is what a client wants.
type Request struct {
	Endpoint  string // of the peer, "[192.0.2.1]:25"
	Flags     int
	Handshake time.Duration // limit of the handshake
	Session   time.Duration // limit of inactivity after it
	ServerID  string        // for the session cache
}

// ReadRequest reads the first list of a client.
func ReadRequest(in *attr.Reader) (r Request, err error) {
	list, err := in.List()
	if err != nil {
		return r, err
	}
	s := &scanner{list: list, from: in.From()}
	r.Endpoint, r.Flags = s.next("remote_endpoint"), s.num("flags")
	r.Handshake, r.Session = time.Duration(s.num("timeout"))*time.Second, time.Duration(s.num("timeout"))*time.Second
	r.ServerID = s.next("serverid")
	return r, s.err
}

// Write sends it.
func (r Request) Write(out *attr.Writer) error {
	return out.Str("remote_endpoint", r.Endpoint).Int("flags", r.Flags).Int("timeout", int(r.Handshake/time.Second)).
		Int("timeout", int(r.Session/time.Second)).Str("serverid", r.ServerID).Send()
}

// Parameters are the settings of the TLS library that both sides must have in
// common, by their names, in the order in which they are sent.
var Parameters = []string{"tls_high_cipherlist", "tls_medium_cipherlist", "tls_low_cipherlist", "tls_export_cipherlist", "tls_null_cipherlist",
	"tls_eecdh_auto_curves", "tls_eecdh_strong_curve", "tls_eecdh_ultra_curve", "tls_disable_workarounds", "tls_ssl_options", "tls_dane_digests",
	"tlsmgr_service_name", "tls_session_ticket_cipher", "tls_daemon_random_bytes", "tls_append_default_CA", "tls_legacy_public_key_fingerprints",
	"tls_preempt_cipherlist", "tls_wildcard_matches_multiple_labels"}

// openSSL are parameters of a library that we do not have; they come first.
var openSSL = []string{"config_file", "config_name"}

// Client is what a TLS client must know beyond the Request.
type Client struct {
	Parameters map[string]string // numbers as they are sent: flags are "0" and "1"

	// For the engine.
	LogParam, LogLevel string
	Depth              int
	CacheType          string
	Files              mailtls.Files
	CAFile, CAPath     string
	Digest             string // *_fingerprint_digest

	// For this session.
	Level      mailtls.Level
	NextHop    string
	Host       string
	NamAddr    string // in log lines
	SNI        string
	ServerID   string // for the session cache
	Helo       string
	Protocols  string
	Grade      string
	Exclusions string
	Match      []string // names, or digests at level fingerprint
	TLSADomain string
	HasTLSA    bool // there is a list of TLSA records, be it empty; trust anchor files are sent as such too
	TLSA       []mailtls.TLSA
}

// EngineKey is the same for clients that can share certificates, anchors and
// settings of the library.
func (c *Client) EngineKey() string {
	return fmt.Sprintf("%q", []any{c.Files, c.CAFile, c.CAPath, c.Digest, c.Depth, c.Parameters})
}

// Settings are the names and values of what an engine is made of, in the order
// in which they are sent.
func (c *Client) Settings() [][2]string {
	f := &c.Files
	return [][2]string{{"log_param", c.LogParam}, {"log_level", c.LogLevel}, {"verifydepth", strconv.Itoa(c.Depth)},
		{"chain_files", f.Chain}, {"cert_file", f.Cert}, {"key_file", f.Key}, {"dcert_file", f.DCert}, {"dkey_file", f.DKey},
		{"eccert_file", f.ECCert}, {"eckey_file", f.ECKey}, {"CAfile", c.CAFile}, {"CApath", c.CAPath}, {"mdalg", c.Digest}}
}

// scanner takes attributes off a list in strict order; the first error sticks.
type scanner struct {
	list attr.List
	from string
	err  error
}

func (s *scanner) next(name string) string {
	switch {
	case s.err != nil:
		return ""
	case len(s.list) == 0:
		s.err = &attr.Error{Text: fmt.Sprintf("missing attribute %s in input from %s", name, s.from)}
		return ""
	case s.list[0].Name != name:
		s.err = &attr.Error{Text: fmt.Sprintf("unexpected attribute %.100s from %s (expecting: %s)", s.list[0].Name, s.from, name)}
		return ""
	}
	v := s.list[0].Value
	s.list = s.list[1:]
	return v
}

func (s *scanner) str(to ...any) {
	for i := 0; i+1 < len(to); i += 2 {
		*to[i+1].(*string) = s.next(to[i].(string))
	}
}

func (s *scanner) num(name string) int {
	text := s.next(name)
	if s.err != nil {
		return 0
	}
	n, err := attr.ParseInt(text)
	if err != nil {
		s.err = &attr.Error{Text: fmt.Sprintf("malformed numerical data from %s while reading input attribute value: %.100s", s.from, text)}
	}
	return n
}

func (s *scanner) count(name string, limit int) int {
	n := s.num(name)
	if s.err == nil && (n < 0 || n > limit) {
		s.err = &attr.Error{Text: fmt.Sprintf("bad %s %d from %s", name, n, s.from)}
	}
	if s.err != nil {
		return 0
	}
	return n
}

// ReadClient reads the second list, which comes with ClientRole.
func ReadClient(in *attr.Reader) (*Client, error) {
	list, err := in.List()
	if err != nil {
		return nil, err
	}
	s := &scanner{list: list, from: in.From()}
	c := &Client{Parameters: map[string]string{}}
	for _, name := range openSSL {
		s.next(name)
	}
	for _, name := range Parameters {
		c.Parameters[name] = s.next(name)
	}
	s.str("log_param", &c.LogParam, "log_level", &c.LogLevel)
	c.Depth = s.num("verifydepth")
	s.str("cache_type", &c.CacheType, "chain_files", &c.Files.Chain, "cert_file", &c.Files.Cert, "key_file", &c.Files.Key, "dcert_file", &c.Files.DCert,
		"dkey_file", &c.Files.DKey, "eccert_file", &c.Files.ECCert, "eckey_file", &c.Files.ECKey, "CAfile", &c.CAFile, "CApath", &c.CAPath, "mdalg", &c.Digest)
	s.num("timeout")
	c.Level = mailtls.Level(s.num("tls_level"))
	s.str("nexthop", &c.NextHop, "host", &c.Host, "namaddr", &c.NamAddr, "sni", &c.SNI, "serverid", &c.ServerID, "helo", &c.Helo,
		"protocols", &c.Protocols, "cipher_grade", &c.Grade, "cipher_exclusions", &c.Exclusions)
	for range s.count("argv_size", maxMatch) {
		c.Match = append(c.Match, s.next("argv_value"))
	}
	s.str("mdalg", &c.Digest)
	if s.num("dane") != 0 {
		s.readTLSA(c)
	}
	if s.err == nil && c.Level <= mailtls.LevelNone || c.Level > mailtls.LevelSecure {
		s.err = errors.New("bad TLS level")
	}
	return c, s.err
}

func (s *scanner) readTLSA(c *Client) {
	c.HasTLSA = true
	s.str("domain", &c.TLSADomain)
	for range s.count("count", maxTLSA) {
		t := mailtls.TLSA{Usage: s.num("usage"), Selector: s.num("selector"), MatchType: s.num("mtype")}
		one := attr.List{{Name: "data", Value: s.next("data")}}
		if s.err == nil {
			_, s.err = one.Scan(s.from, attr.Data("data", &t.Data))
		}
		c.TLSA = append(c.TLSA, t)
	}
}

// Write sends it.
func (c *Client) Write(out *attr.Writer) error {
	for _, name := range openSSL {
		out.Str(name, "")
	}
	for _, name := range Parameters {
		out.Str(name, c.Parameters[name])
	}
	for _, a := range c.Settings() {
		out.Str(a[0], a[1])
		if a[0] == "verifydepth" {
			out.Str("cache_type", c.CacheType)
		}
	}
	out.Int("timeout", 0).Int("tls_level", int(c.Level))
	for _, a := range [][2]string{{"nexthop", c.NextHop}, {"host", c.Host}, {"namaddr", c.NamAddr}, {"sni", c.SNI}, {"serverid", c.ServerID}, {"helo", c.Helo},
		{"protocols", c.Protocols}, {"cipher_grade", c.Grade}, {"cipher_exclusions", c.Exclusions}} {
		out.Str(a[0], a[1])
	}
	out.Int("argv_size", len(c.Match))
	for _, m := range c.Match {
		out.Str("argv_value", m)
	}
	out.Str("mdalg", c.Digest)
	if !c.HasTLSA {
		return out.Int("dane", 0).Send()
	}
	out.Int("dane", 1).Str("domain", c.TLSADomain).Int("count", len(c.TLSA))
	for _, t := range c.TLSA {
		out.Int("usage", t.Usage).Int("selector", t.Selector).Int("mtype", t.MatchType).Data("data", t.Data)
	}
	return out.Send()
}
