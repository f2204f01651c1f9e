package mailtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Warn takes a line for the log, without "warning: ".
type Warn func(format string, a ...any)

// ErrCertificates is returned where everything there is to say was given to
// Warn.
var ErrCertificates = errors.New("cannot load certificates")

// Files are the files of a main.cf that certificates and keys come from.
type Files struct {
	Chain         string // *_tls_chain_files: a list
	Cert, Key     string // RSA by name, any algorithm in fact
	DCert, DKey   string
	ECCert, ECKey string
}

// Conflict is the warning about legacy files beside chain files, "" if there
// are none. prefix is "smtpd_tls" or "smtp_tls".
func (f Files) Conflict(prefix string) string {
	if f.Chain == "" || f.Cert == "" && f.DCert == "" && f.ECCert == "" {
		return ""
	}
	return fmt.Sprintf("Both %[1]s_chain_files and one or more of the legacy  %[1]s_cert_file, %[1]s_eccert_file or %[1]s_dcert_file are non-empty; the legacy  parameters will be ignored", prefix)
}

// Load reads certificates and their keys: the chain files if there are any,
// else the legacy files ("none" and "" are no file). On failure each warning
// but the last was given to warn, and the last is the error; the caller adds
// ": disabling TLS support".
func (f Files) Load(warn Warn) ([]tls.Certificate, error) {
	if list := splitNames(f.Chain); len(list) > 0 {
		certs, err := loadChains(list)
		for _, w := range certs.notes {
			warn("%s", w)
		}
		if err != nil {
			warn("%v", err)
			return nil, fmt.Errorf("error loading private keys and certificates from: %s", f.Chain)
		}
		return certs.all, nil
	}
	var out []tls.Certificate
	for _, pair := range []struct{ kind, cert, key string }{{"RSA", f.Cert, f.Key}, {"DSA", f.DCert, f.DKey}, {"ECDSA", f.ECCert, f.ECKey}} {
		if pair.cert == "" || strings.EqualFold(pair.cert, "none") {
			continue
		}
		c, err := loadPair(pair.kind, pair.cert, pair.key, warn)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func splitNames(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}

// maxCertFile bounds a file of certificates, in bytes.
const maxCertFile = 4 << 20

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCertFile+1))
	if err == nil && len(data) > maxCertFile {
		err = errors.New("File too large")
	}
	return data, err
}

// systemText is an error in the words of errno, without the file name.
func systemText(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// pemKeys are the PEM types of private keys.
var pemKeys = map[string]bool{"PRIVATE KEY": true, "RSA PRIVATE KEY": true, "EC PRIVATE KEY": true, "DSA PRIVATE KEY": true}

// isCertificate tells the PEM types of certificates.
func isCertificate(kind string) bool {
	return kind == "CERTIFICATE" || kind == "X509 CERTIFICATE" || kind == "TRUSTED CERTIFICATE"
}

// skipped are objects that are no concern of ours and not worth a warning.
var skipped = map[string]bool{"DH PARAMETERS": true, "X9.42 DH PARAMETERS": true, "EC PARAMETERS": true, "DSA PARAMETERS": true}

func parseKey(der []byte) (crypto.Signer, error) {
	var key any
	var err error
	if key, err = x509.ParsePKCS8PrivateKey(der); err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			key, err = x509.ParseECPrivateKey(der)
		}
	}
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, errors.New("unsupported key type")
}

func algorithm(key crypto.PublicKey) string { return fmt.Sprintf("%T", key) }

func sameKey(a, b crypto.PublicKey) bool {
	x, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && x.Equal(b)
}

// chainState is the state of reading chain files.
type chainState struct {
	all      []tls.Certificate
	notes    []string // warnings that are no errors
	key      crypto.Signer
	keyIndex int
	keyFile  string
	current  *tls.Certificate
	legacy   bool // one file with objects in any order
}

// loadChains reads chain files: each private key comes before its certificate
// and the certificates above that.
func loadChains(names []string) (*chainState, error) {
	st := &chainState{}
	for _, name := range names {
		data, err := readBounded(name)
		if err != nil {
			return st, fmt.Errorf("error opening chain file: %s: %s", name, systemText(err))
		}
		if err := st.read(data, name); err != nil {
			return st, err
		}
	}
	return st, st.end()
}

// ParseChain reads a chain that is no file: the value of an SNI table. source
// names it in messages.
func ParseChain(data []byte, source string, warn Warn) ([]tls.Certificate, error) {
	st := &chainState{}
	err := st.read(data, source)
	if err == nil {
		err = st.end()
	}
	for _, w := range st.notes {
		warn("%s", w)
	}
	return st.all, err
}

// read takes the PEM objects of a file. Their numbers in messages count from 1.
func (st *chainState) read(data []byte, file string) error {
	objects := 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		objects++
		var err error
		switch {
		case pemKeys[block.Type]:
			err = st.addKey(block.Bytes, objects, file)
		case isCertificate(block.Type):
			err = st.addCertificate(block.Bytes, objects, file)
		case !skipped[block.Type]:
			st.notes = append(st.notes, fmt.Sprintf("loading %s: ignoring PEM type: %s", file, block.Type))
		}
		if err != nil {
			return err
		}
	}
	if objects == 0 {
		return fmt.Errorf("No PEM data in %s", file)
	}
	return nil
}

func (st *chainState) addKey(der []byte, n int, file string) error {
	key, err := parseKey(der)
	if err != nil {
		return fmt.Errorf("error loading private key (PEM object number %d) from %s", n, file)
	}
	if st.key != nil && st.current == nil {
		return st.noCertificate()
	}
	st.key, st.keyIndex, st.keyFile, st.current = key, n, file, nil
	for _, c := range st.all {
		if k, ok := c.PrivateKey.(crypto.Signer); ok && algorithm(k.Public()) == algorithm(key.Public()) {
			return fmt.Errorf("error loading certificate chain: key at index %d in %s has the same algorithm as an earlier key", n, file)
		}
	}
	return nil
}

func (st *chainState) noCertificate() error {
	return fmt.Errorf("error loading certificate chain: key at index %d in %s not followed by a certificate", st.keyIndex, st.keyFile)
}

func (st *chainState) addCertificate(der []byte, n int, file string) error {
	cert, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return fmt.Errorf("error loading certificate (PEM object number %d) from %s", n, file)
	case st.key == nil:
		return fmt.Errorf("error loading chain from %s: key not first", file)
	case st.current != nil:
		st.current.Certificate = append(st.current.Certificate, der)
		return nil
	case !sameKey(cert.PublicKey, st.key.Public()):
		return fmt.Errorf("error loading certificate chain: key at index %d in %s does not match the certificate", st.keyIndex, st.keyFile)
	}
	st.all = append(st.all, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: st.key, Leaf: cert})
	st.current = &st.all[len(st.all)-1]
	return nil
}

func (st *chainState) end() error {
	switch {
	case st.key != nil && st.current == nil:
		return fmt.Errorf("No certs for key at index %d in %s", st.keyIndex, st.keyFile)
	case len(st.all) == 0:
		return errors.New("No PEM data")
	}
	return nil
}

// loadPair reads a legacy certificate file and its key file. When they are
// the same file, key and certificates may be in any order.
func loadPair(kind, certFile, keyFile string, warn Warn) (tls.Certificate, error) {
	var c tls.Certificate
	noCert := fmt.Errorf("cannot get %s certificate from file \"%s\"", kind, certFile)
	noKey := fmt.Errorf("cannot get %s private key from file \"%s\"", kind, keyFile)
	data, err := readBounded(certFile)
	if err != nil {
		return c, noCert
	}
	for _, block := range pemBlocks(data) {
		if !isCertificate(block.Type) {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return c, noCert
		}
		if c.Leaf == nil {
			c.Leaf = cert
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if c.Leaf == nil {
		return c, noCert
	}
	if keyFile != certFile {
		if data, err = readBounded(keyFile); err != nil {
			return c, noKey
		}
	}
	at := 0
	var key crypto.Signer
	for i, block := range pemBlocks(data) {
		if !pemKeys[block.Type] {
			continue
		}
		if key != nil {
			if keyFile == certFile {
				warn("ignoring 2nd key at index %d in %s after 1st at %d", i+1, keyFile, at)
			}
			continue
		}
		if key, err = parseKey(block.Bytes); err != nil {
			return c, noKey
		}
		at = i + 1
	}
	if key == nil && keyFile == certFile {
		warn("No private key found in %s", keyFile)
	}
	if key == nil || !sameKey(c.Leaf.PublicKey, key.Public()) {
		return c, noKey
	}
	c.PrivateKey = key
	return c, nil
}

func pemBlocks(data []byte) []*pem.Block {
	var out []*pem.Block
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return out
		}
		out, data = append(out, block), rest
	}
}

// hashedName is a certificate's file name in a CApath directory.
var hashedName = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)

// LoadRoots reads trust anchors: all certificates of the file caFile, those of
// the directory caPath that have hashed names (c_rehash), and with system those
// that the operating system has. "" is none. The error is worded as the
// original's log line, to which the caller adds ": disabling TLS support"; a
// directory that cannot be read is no error, as before.
//
// A directory is read once, at start; the original looks into it at each
// handshake.
func LoadRoots(caFile, caPath string, system bool) (*Roots, error) {
	r := NewRoots()
	if system {
		if pool, err := x509.SystemCertPool(); err == nil {
			r.pool = pool
		}
	}
	if caFile != "" {
		certs, err := readCertificates(caFile)
		if err != nil || len(certs) == 0 {
			return nil, fmt.Errorf("cannot load Certification Authority data, CAfile=\"%s\", CApath=\"%s\"", caFile, caPath)
		}
		for _, c := range certs {
			r.add(c)
		}
		r.told = len(r.certs)
	}
	if caPath != "" {
		entries, _ := os.ReadDir(caPath)
		for _, e := range entries {
			if !hashedName.MatchString(e.Name()) {
				continue
			}
			certs, _ := readCertificates(filepath.Join(caPath, e.Name()))
			for _, c := range certs {
				r.add(c)
			}
		}
	}
	return r, nil
}

// readCertificates reads the certificates of a PEM file; those that cannot be
// parsed are an error.
func readCertificates(name string) ([]*x509.Certificate, error) {
	data, err := readBounded(name)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, block := range pemBlocks(data) {
		if isCertificate(block.Type) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// Names is a pool of the certificates of the CAfile only, for tls.Config's
// ClientCAs: their names are told to clients. It is nil if there are none.
func (r *Roots) Names() *x509.CertPool {
	if r == nil || r.told == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for _, c := range r.certs[:r.told] {
		pool.AddCert(c)
	}
	return pool
}
