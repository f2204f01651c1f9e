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
	"slices"
	"strings"
	"sync"
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
// else the legacy files ("none" and "" are no file; a certificate file that is
// its own key file has key and certificates in any order). On failure each
// warning but the last was given to warn, and the last is the error; the caller
// adds ": disabling TLS support". ErrCertificates is that everything was said.
//
// As with the original, chain files that cannot be opened are a warning, and
// there are no certificates.
func (f Files) Load(warn Warn) ([]tls.Certificate, error) {
	if list := splitNames(f.Chain); len(list) > 0 {
		certs, err := loadFiles(list, f.Chain, false, warn)
		if errors.Is(err, ErrCertificates) {
			return nil, nil
		}
		return certs, err
	}
	var out []tls.Certificate
	for _, pair := range []struct{ kind, cert, key string }{{"RSA", f.Cert, f.Key}, {"DSA", f.DCert, f.DKey}, {"ECDSA", f.ECCert, f.ECKey}} {
		if pair.cert == "" || strings.EqualFold(pair.cert, "none") {
			continue
		}
		if pair.key == pair.cert {
			certs, err := loadFiles([]string{pair.cert}, pair.cert, true, warn)
			if err != nil {
				return nil, err
			}
			out = append(out, certs...)
			continue
		}
		c, err := loadPair(pair.kind, pair.cert, pair.key)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// loadFiles reads files of keys and chains; source names them in the last
// message.
func loadFiles(names []string, source string, anyOrder bool, warn Warn) ([]tls.Certificate, error) {
	st := &chainState{anyOrder: anyOrder, warn: warn}
	for _, name := range names {
		data, err := readBounded(name)
		if err != nil {
			warn("error opening chain file: %s: %s", name, systemText(err))
			return nil, ErrCertificates
		}
		if err := st.read(data, name); err != nil {
			return nil, st.failed(err, source)
		}
	}
	if err := st.end(); err != nil {
		return nil, st.failed(err, source)
	}
	return st.all, nil
}

// ParseChain reads a chain that is no file: the value of an SNI table. source
// names it in messages. Errors are as those of Load.
func ParseChain(data []byte, source string, warn Warn) ([]tls.Certificate, error) {
	st := &chainState{warn: warn}
	err := st.read(data, source)
	if err == nil {
		err = st.end()
	}
	if err != nil {
		return nil, st.failed(err, source)
	}
	return st.all, nil
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

// chainState is the state of reading chain files: each private key comes
// before its certificate and the certificates above that.
type chainState struct {
	all      []tls.Certificate
	warn     Warn
	key      crypto.Signer
	keyIndex int
	file     string // the last one
	keyFile  string
	started  bool     // the key has its certificate
	anyOrder bool     // one legacy file with objects in any order
	waiting  [][]byte // its certificates
}

func (st *chainState) failed(err error, source string) error {
	st.warn("%v", err)
	return fmt.Errorf("error loading private keys and certificates from: %s", source)
}

// read takes the PEM objects of a file. Their numbers in messages count from 1.
func (st *chainState) read(data []byte, file string) error {
	st.file = file
	blocks := pemBlocks(data)
	for i, block := range blocks {
		var err error
		switch {
		case pemKeys[block.Type]:
			err = st.addKey(block.Bytes, i+1)
		case isCertificate(block.Type):
			err = st.addCertificate(block.Bytes, i+1)
		case !skipped[block.Type]:
			st.warn("loading %s: ignoring PEM type: %s", file, block.Type)
		}
		if err != nil {
			return err
		}
	}
	if len(blocks) == 0 {
		return fmt.Errorf("No PEM data in %s", file)
	}
	return nil
}

func (st *chainState) addKey(der []byte, n int) error {
	if st.anyOrder && st.key != nil {
		st.warn("ignoring 2nd key at index %d in %s after 1st at %d", n, st.file, st.keyIndex)
		return nil
	}
	key, err := parseKey(der)
	if err != nil {
		return fmt.Errorf("error loading private key (PEM object number %d) from %s", n, st.file)
	}
	if st.key != nil && !st.started {
		return fmt.Errorf("error loading certificate chain: key at index %d in %s not followed by a certificate", st.keyIndex, st.keyFile)
	}
	st.key, st.keyIndex, st.keyFile, st.started = key, n, st.file, false
	return nil
}

func (st *chainState) addCertificate(der []byte, n int) error {
	cert, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return fmt.Errorf("error loading certificate (PEM object number %d) from %s", n, st.file)
	case st.anyOrder:
		st.waiting = append(st.waiting, der)
		return nil
	case st.key == nil:
		return fmt.Errorf("error loading chain from %s: key not first", st.file)
	case st.started:
		last := &st.all[len(st.all)-1]
		last.Certificate = append(last.Certificate, der)
		return nil
	}
	return st.start(cert)
}

// start begins a chain for the current key. A second key of one algorithm
// gets the message that OpenSSL's confusion about it leads to.
func (st *chainState) start(leaf *x509.Certificate) error {
	again := false
	for _, c := range st.all {
		k, ok := c.PrivateKey.(crypto.Signer)
		again = again || ok && algorithm(k.Public()) == algorithm(st.key.Public())
	}
	if again || !sameKey(leaf.PublicKey, st.key.Public()) {
		return fmt.Errorf("key at index %d in %s does not match next certificate", st.keyIndex, st.keyFile)
	}
	st.all = append(st.all, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: st.key, Leaf: leaf})
	st.started = true
	return nil
}

func (st *chainState) end() error {
	if st.anyOrder {
		if st.key == nil {
			return fmt.Errorf("No private key found in %s", st.file)
		}
		st.anyOrder = false
		for _, der := range st.waiting {
			if err := st.addCertificate(der, 0); err != nil {
				return err
			}
		}
	}
	if st.key == nil {
		return fmt.Errorf("No PEM data in %s", st.file)
	}
	if !st.started {
		return fmt.Errorf("No certs for key at index %d in %s", st.keyIndex, st.keyFile)
	}
	return nil
}

// loadPair reads a legacy certificate file and its separate key file.
func loadPair(kind, certFile, keyFile string) (tls.Certificate, error) {
	var c tls.Certificate
	noCert := fmt.Errorf("cannot get %s certificate from file \"%s\"", kind, certFile)
	noKey := fmt.Errorf("cannot get %s private key from file \"%s\"", kind, keyFile)
	certs, err := readCertificates(certFile)
	if err != nil || len(certs) == 0 {
		return c, noCert
	}
	c.Leaf = certs[0]
	for _, cert := range certs {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	data, err := readBounded(keyFile)
	if err != nil {
		return c, noKey
	}
	for _, block := range pemBlocks(data) {
		if !pemKeys[block.Type] {
			continue
		}
		key, err := parseKey(block.Bytes)
		if err != nil || !sameKey(c.Leaf.PublicKey, key.Public()) {
			return c, noKey
		}
		c.PrivateKey = key
		return c, nil
	}
	return c, noKey
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
var hashedName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`) })

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
			where := fmt.Sprintf("CAfile=\"%s\"", caFile)
			if caPath != "" {
				where += fmt.Sprintf(", CApath=\"%s\"", caPath)
			}
			return nil, fmt.Errorf("cannot load Certification Authority data, %s", where)
		}
		for _, c := range certs {
			r.add(c)
		}
		r.told = len(r.certs)
	}
	if caPath != "" {
		entries, _ := os.ReadDir(caPath)
		for _, e := range entries {
			if !hashedName().MatchString(e.Name()) {
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

// Prefer sorts certificates as a client that announced these signature schemes
// would like them, best first: crypto/tls takes the first that will do. The
// slice is a new one.
func Prefer(certs []tls.Certificate, schemes []tls.SignatureScheme, version uint16) []tls.Certificate {
	rank := func(c tls.Certificate) int {
		key, ok := c.PrivateKey.(crypto.Signer)
		if !ok {
			return len(schemes)
		}
		for i, scheme := range schemes {
			if signsWith(key.Public(), scheme, version) {
				return i
			}
		}
		return len(schemes)
	}
	out := slices.Clone(certs)
	slices.SortStableFunc(out, func(a, b tls.Certificate) int { return rank(a) - rank(b) })
	return out
}

// signsWith reports whether a key can make signatures of a scheme.
func signsWith(key crypto.PublicKey, scheme tls.SignatureScheme, version uint16) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return scheme == tls.PSSWithSHA256 || scheme == tls.PSSWithSHA384 || scheme == tls.PSSWithSHA512 ||
			version < tls.VersionTLS13 && (scheme == tls.PKCS1WithSHA256 || scheme == tls.PKCS1WithSHA384 || scheme == tls.PKCS1WithSHA512)
	case *ecdsa.PublicKey:
		want := map[string]tls.SignatureScheme{"P-256": tls.ECDSAWithP256AndSHA256, "P-384": tls.ECDSAWithP384AndSHA384, "P-521": tls.ECDSAWithP521AndSHA512}
		return want[key.Curve.Params().Name] == scheme
	case ed25519.PublicKey:
		return scheme == tls.Ed25519
	}
	return false
}
