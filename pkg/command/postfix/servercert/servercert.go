// Package servercert makes the private keys, self-signed certificates, signing
// requests and TLSA data of "postfix tls". What it makes is what the original
// has OpenSSL make: RSA keys in PKCS#8, elliptic ones in SEC 1 form with their
// parameters in front, certificates without a purpose but TLS, for a hundred
// years.
package servercert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"time"
)

// Algorithms are the kinds of keys.
const (
	RSA   = "rsa"
	ECDSA = "ecdsa"
)

// Defaults of -b.
const (
	rsaBits = "2048"
	ecCurve = "secp256r1"
)

// Size is what -b is for an algorithm, by default.
func Size(algorithm, given string) string {
	switch {
	case given != "":
		return given
	case algorithm == ECDSA:
		return ecCurve
	}
	return rsaBits
}

// curves are the elliptic curves by the names that OpenSSL has for them, with
// their identifiers.
var curves = map[string]elliptic.Curve{
	"secp256r1": elliptic.P256(), "prime256v1": elliptic.P256(), "P-256": elliptic.P256(), "secp384r1": elliptic.P384(), "P-384": elliptic.P384(),
	"secp521r1": elliptic.P521(), "P-521": elliptic.P521(), "secp224r1": elliptic.P224(),
}

var identifiers = map[string]asn1.ObjectIdentifier{
	"P-224": {1, 3, 132, 0, 33}, "P-256": {1, 2, 840, 10045, 3, 1, 7}, "P-384": {1, 3, 132, 0, 34}, "P-521": {1, 3, 132, 0, 35},
}

// NewKey makes a private key: of so many bits (RSA) or on that curve.
func NewKey(algorithm, size string) (crypto.Signer, error) {
	if algorithm == ECDSA {
		curve, ok := curves[size]
		if !ok {
			return nil, errors.New("invalid curve: " + size)
		}
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	bits, err := strconv.Atoi(size)
	if err != nil {
		return nil, err
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// EncodeKey is a private key in PEM. parameters are put in front of a new
// elliptic key.
func EncodeKey(key crypto.Signer, parameters bool) ([]byte, error) {
	ec, elliptic := key.(*ecdsa.PrivateKey)
	if !elliptic {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	}
	der, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if !parameters {
		return out, nil
	}
	id, err := asn1.Marshal(identifiers[ec.Curve.Params().Name])
	return append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: id}), out...), err
}

// LoadKey reads the first private key of a file, and its algorithm.
func LoadKey(path string) (key crypto.Signer, algorithm string, err error) {
	data, err := os.ReadFile(path)
	for block, rest := pem.Decode(data); err == nil && block != nil; block, rest = pem.Decode(rest) {
		if key, algorithm = parseKey(block); key != nil {
			return key, algorithm, nil
		}
	}
	return nil, "", fmt.Errorf("no private key found in file: %s", path)
}

func parseKey(block *pem.Block) (crypto.Signer, string) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, ""
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, RSA
	case *ecdsa.PrivateKey:
		return key, ECDSA
	}
	return nil, ""
}

// LoadCert reads the first certificate of a file.
func LoadCert(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no certificate in " + path)
}

// Belongs reports whether a certificate is one for a key.
func Belongs(c *x509.Certificate, key crypto.Signer) bool {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return err == nil && bytes.Equal(der, c.RawSubjectPublicKeyInfo)
}

// TLSA is the data of a record 3 1 1 for a key, in hexadecimal digits.
func TLSA(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	sum := sha256.Sum256(der)
	return fmt.Sprintf("%x", sum), err
}

var (
	oidKeyID       = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidNames       = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidPurposes    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidServer      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClient      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// extensions are the key's identifier, the purposes and the names.
func extensions(key crypto.Signer, names []string) ([]pkix.Extension, error) {
	var public struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err == nil {
		_, err = asn1.Unmarshal(der, &public)
	}
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(public.Bits.Bytes)
	var dns []asn1.RawValue
	for _, name := range names {
		dns = append(dns, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
	}
	var list []pkix.Extension
	for _, e := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{{oidKeyID, sum[:]}, {oidPurposes, []asn1.ObjectIdentifier{oidServer, oidClient}}, {oidNames, dns}} {
		der, err := asn1.Marshal(e.value)
		if err != nil {
			return nil, err
		}
		list = append(list, pkix.Extension{Id: e.id, Value: der})
	}
	return list, nil
}

// lifetime is that of a self-signed certificate: a hundred years.
const lifetime = 36525 * 24 * time.Hour

// SelfSigned makes a certificate for names, of which the first is the common
// name, in PEM.
func SelfSigned(key crypto.Signer, names []string, now time.Time) ([]byte, error) {
	list, err := extensions(key, names)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, err
	}
	const noCA = "\x30\x00" // an empty sequence
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, NotBefore: now, NotAfter: now.Add(lifetime),
		ExtraExtensions: append([]pkix.Extension{{Id: oidConstraints, Value: []byte(noCA)}}, list...)}
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		tmpl.SignatureAlgorithm = x509.ECDSAWithSHA256
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// Request makes a certificate signing request for names, in PEM.
func Request(key crypto.Signer, names []string) ([]byte, error) {
	list, err := extensions(key, names)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.CertificateRequest{ExtraExtensions: list}
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		tmpl.SignatureAlgorithm = x509.ECDSAWithSHA256
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), err
}
