package review

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"slices"
	"time"

	"posthaste/pkg/conf"
)

// soon is how long before the end of a certificate it is told.
const soon = 14 * 24 * time.Hour

// maxFile bounds a file that is read as a whole, in bytes.
const maxFile = 1 << 20

// keyPairs are the parameters that name a certificate and its key, without
// the prefix smtpd, smtp or lmtp.
var keyPairs = [][2]string{
	{"_tls_cert_file", "_tls_key_file"}, {"_tls_eccert_file", "_tls_eckey_file"}, {"_tls_dcert_file", "_tls_dkey_file"},
}

// certificates looks at the certificates that settings name.
func (r *reviewer) certificates() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			for _, prefix := range []string{"smtpd", "smtp", "lmtp", "tlsproxy"} {
				for _, pair := range keyPairs {
					certificate, key := prefix+pair[0], prefix+pair[1]
					if name == certificate || name == key && !slices.Contains(p.names(), certificate) {
						p.keyPair(name, p.value(certificate), p.value(key))
					}
				}
				if name == prefix+"_tls_chain_files" {
					for _, file := range conf.Fields(p.value(name)) {
						p.keyPair(name, file, file)
					}
				}
			}
		}
	}
}

// keyPair looks at a certificate and its key. Files that cannot be read are
// the business of the program that wants them; those of chain files can be
// one without the other.
func (p place) keyPair(name, certificate, key string) {
	if certificate == "" || certificate == "none" || key == "" {
		return
	}
	cert, err := readSmall(certificate)
	if err != nil {
		return
	}
	private, err := readSmall(key)
	if err != nil {
		return
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		if certificate != key {
			p.add(KindCertificate, name, "%s: certificate %s and key %s do not go together: %s", name, certificate, key, err)
		}
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return
	}
	end := leaf.NotAfter.UTC().Format("2006-01-02 15:04:05 UTC")
	switch left := leaf.NotAfter.Sub(p.r.now); {
	case left < 0:
		p.add(KindCertificate, name, "%s: certificate %s has expired at %s", name, certificate, end)
	case left < soon:
		p.add(KindCertificate, name, "%s: certificate %s expires at %s", name, certificate, end)
	}
}

// readSmall reads a regular file that is not too large.
func readSmall(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, os.ErrInvalid
	}
	return os.ReadFile(path)
}
