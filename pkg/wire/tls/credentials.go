package mailtls

import (
	"crypto/tls"
	"errors"
)

// ClientFiles say what a client of TLS has and believes.
type ClientFiles struct {
	Files
	CAFile, CAPath    string
	SystemCA          bool   // the system's authorities too, if there are others
	FingerprintDigest string // by name
	// Prefix is that of the parameters, for the warning about legacy files;
	// "" leaves it out.
	Prefix string
}

// Credentials are what ClientFiles hold.
type Credentials struct {
	Certs  []tls.Certificate // with the issuers that are known
	Roots  *Roots
	Digest Digest
}

// Load reads the files. Trouble is logged in the original's words, and then
// there are no credentials and no TLS.
func (f ClientFiles) Load(info, warn Warn) (c Credentials, ok bool) {
	var err error
	if c.Digest, err = ParseDigest(f.FingerprintDigest); err != nil {
		warn("%v", err)
		warn("disabling TLS support")
		return c, false
	}
	if f.Prefix != "" {
		if text := f.Conflict(f.Prefix); text != "" {
			warn("%s", text)
		}
	}
	if c.Roots, err = LoadRoots(f.CAFile, f.CAPath, f.SystemCA && (f.CAFile != "" || f.CAPath != "")); err != nil {
		info("%v: disabling TLS support", err)
		return c, false
	}
	if c.Certs, err = f.Files.Load(warn); err != nil {
		if !errors.Is(err, ErrCertificates) {
			warn("%v: disabling TLS support", err)
		}
		return c, false
	}
	for i := range c.Certs {
		c.Certs[i] = c.Roots.WithIssuers(c.Certs[i])
	}
	return c, true
}
