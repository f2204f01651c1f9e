package sasl

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
)

// Limits of SCRAM (RFC 5802): a server that wants more iterations wants our
// time, and one that wants fewer than RFC 7677 says is not to be trusted with
// a password's digest... but old ones with 4096 abound.
const (
	scramIterations    = 4096
	maxScramIterations = 1000000
	maxScramMessage    = 2048
)

// scramKeys are computed from a password.
type scramKeys struct{ client, stored, server []byte }

func scramKeysOf(h func() hash.Hash, password string, salt []byte, iterations int) (scramKeys, error) {
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return scramKeys{}, err
	}
	k := scramKeys{client: sign(h, salted, "Client Key"), server: sign(h, salted, "Server Key")}
	d := h()
	d.Write(k.client)
	k.stored = d.Sum(nil)
	return k, nil
}

func sign(h func() hash.Hash, key []byte, text string) []byte {
	mac := hmac.New(h, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// proof is the client's: its key, hidden under a signature.
func (k scramKeys) proof(h func() hash.Hash, message string) []byte {
	p := sign(h, k.stored, message)
	for i := range p {
		p[i] ^= k.client[i]
	}
	return p
}

var scramEscape = strings.NewReplacer("=", "=3D", ",", "=2C")

func scramUnescape(s string) (string, bool) {
	out := strings.NewReplacer("=3D", "=", "=2C", ",").Replace(s)
	return out, strings.Count(s, "=") == strings.Count(s, "=3D")+strings.Count(s, "=2C")
}

// scramFields cuts a message into its attributes, which must have the given
// letters in this order; more may follow.
func scramFields(s, letters string) ([]string, bool) {
	parts := strings.Split(s, ",")
	if len(parts) < len(letters) {
		return nil, false
	}
	values := make([]string, len(letters))
	for i := range letters {
		if len(parts[i]) < 2 || parts[i][0] != letters[i] || parts[i][1] != '=' {
			return nil, false
		}
		values[i] = parts[i][2:]
	}
	return values, true
}

// serveScram is RFC 5802 and 7677 without channel binding.
func (m *mechanism) serveScram(d *dialogue) step {
	s := &scramServer{m: m, d: d}
	return func(_ context.Context, response []byte, _ bool) ([]byte, bool, *failure) {
		switch {
		case len(response) > maxScramMessage:
			return nil, false, fail(resultBadProt, m.name+" input longer than (MAX_CLIENTIN_LEN) bytes")
		case s.firstBare == "":
			return s.first(string(response))
		}
		return s.final(string(response))
	}
}

type scramServer struct {
	m                      *mechanism
	d                      *dialogue
	header, firstBare      string
	nonce, first2, authzid string
	keys                   scramKeys
}

func (s *scramServer) invalid() *failure { return fail(resultBadProt, "Invalid "+s.m.name+" input") }

func (s *scramServer) first(msg string) ([]byte, bool, *failure) {
	parts := strings.SplitN(msg, ",", 3)
	if len(parts) < 3 {
		return nil, false, s.invalid()
	}
	if parts[0] != "n" && parts[0] != "y" {
		return nil, false, fail(resultBadProt, "The initial "+s.m.name+" client response needs to start with 'y', 'n' or 'p'")
	}
	if parts[1] != "" {
		authzid, ok := scramUnescape(strings.TrimPrefix(parts[1], "a="))
		if !ok || !strings.HasPrefix(parts[1], "a=") {
			return nil, false, fail(resultBadProt, "Invalid authorization identity encoding in "+s.m.name+" input")
		}
		s.authzid = authzid
	}
	s.header, s.firstBare = parts[0]+","+parts[1]+",", parts[2]
	fields, ok := scramFields(parts[2], "nr")
	if !ok || fields[1] == "" {
		return nil, false, fail(resultBadProt, "Username (n=) expected in "+s.m.name+" input")
	}
	name, ok := scramUnescape(fields[0])
	if !ok {
		return nil, false, fail(resultBadProt, "Invalid username encoding in "+s.m.name+" input")
	}
	user, bad := s.d.canonical(name)
	if bad != nil {
		return nil, false, bad
	}
	s.d.user = user
	secret, found, bad := s.d.secret(user)
	if bad != nil {
		return nil, false, bad
	}
	if !found {
		return nil, false, fail(resultBadAuth, "unable to canonify user and get auxprops")
	}
	// The same salt each time tells nobody that the file holds no verifier.
	salt := sign(s.m.hash, s.d.salt, s.m.name+"\x00"+user)
	keys, err := scramKeysOf(s.m.hash, secret, salt, scramIterations)
	if err != nil {
		return nil, false, fail(resultFail, "HMAC call failed")
	}
	s.keys, s.nonce = keys, fields[1]+base64.RawStdEncoding.EncodeToString(random(24))
	s.first2 = "r=" + s.nonce + ",s=" + encode64(salt) + ",i=" + strconv.Itoa(scramIterations)
	return []byte(s.first2), false, nil
}

func (s *scramServer) final(msg string) ([]byte, bool, *failure) {
	i := strings.LastIndex(msg, ",p=")
	if i < 0 {
		return nil, false, s.invalid()
	}
	fields, ok := scramFields(msg[:i], "cr")
	if !ok {
		return nil, false, s.invalid()
	}
	switch {
	case fields[0] != encode64([]byte(s.header)):
		return nil, false, fail(resultBadProt, "Channel bindings prefix doesn't match the one received in the GS2 header of "+s.m.name)
	case fields[1] != s.nonce:
		return nil, false, fail(resultBadProt, "Nonce mismatch "+s.m.name+" input")
	}
	proof, err := base64.StdEncoding.DecodeString(msg[i+3:])
	if err != nil {
		return nil, false, fail(resultBadProt, "Invalid base64 encoding of the client proof in "+s.m.name+" input")
	}
	message := s.firstBare + "," + s.first2 + "," + msg[:i]
	if !hmac.Equal(proof, s.keys.proof(s.m.hash, message)) {
		return nil, false, fail(resultBadAuth, "StoredKey mismatch")
	}
	if s.authzid != "" {
		if bad := s.d.assume(s.authzid); bad != nil {
			return nil, false, bad
		}
	}
	return []byte("v=" + encode64(sign(s.m.hash, s.keys.server, message))), true, nil
}

// scramClient is the other side.
type scramClient struct {
	m         *mechanism
	c         Credentials
	bare      string
	nonce     string
	signature string // expected of the server
	step      int
}

func newScram(m *mechanism, c Credentials) Client { return &scramClient{m: m, c: c} }

func (s *scramClient) invalid() error { return fail(resultBadProt, "Invalid "+s.m.name+" input") }

func (s *scramClient) header() string {
	if s.c.Authzid != "" {
		return "n,a=" + scramEscape.Replace(s.c.Authzid) + ","
	}
	return "n,,"
}

func (s *scramClient) Start() (string, []byte, error) {
	if s.nonce == "" {
		s.nonce = base64.RawStdEncoding.EncodeToString(random(24))
	}
	s.bare = "n=" + scramEscape.Replace(s.c.User) + ",r=" + s.nonce
	return s.m.name, []byte(s.header() + s.bare), nil
}

func (s *scramClient) Next(challenge []byte) ([]byte, error) {
	s.step++
	switch msg := string(challenge); {
	case len(msg) > maxScramMessage:
	case s.step == 1:
		return s.prove(msg)
	case s.step == 2:
		if fields, ok := scramFields(msg, "v"); ok && equal(fields[0], s.signature) {
			return []byte{}, nil
		}
		return nil, fail(resultBadAuth, "ServerSignature mismatch")
	}
	return nil, fail(resultFail, stepAfterEnd)
}

func (s *scramClient) prove(first string) ([]byte, error) {
	fields, ok := scramFields(first, "rsi")
	switch {
	case !ok:
		return nil, s.invalid()
	case !strings.HasPrefix(fields[0], s.nonce) || len(fields[0]) == len(s.nonce):
		return nil, fail(resultBadProt, "The nonce received from the server doesn't start from the nonce sent by the client")
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1])
	n, err2 := strconv.Atoi(fields[2])
	if err != nil || err2 != nil || len(salt) == 0 || n < 1 || n > maxScramIterations {
		return nil, s.invalid()
	}
	keys, err := scramKeysOf(s.m.hash, s.c.Password, salt, n)
	if err != nil {
		return nil, s.invalid()
	}
	final := "c=" + encode64([]byte(s.header())) + ",r=" + fields[0]
	message := s.bare + "," + first + "," + final
	s.signature = encode64(sign(s.m.hash, keys.server, message))
	return []byte(final + ",p=" + encode64(keys.proof(s.m.hash, message))), nil
}

// Verified reports whether the server has proven that it knows the password.
func (s *scramClient) Verified() bool { return s.step >= 2 }
