package sasl

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"strings"
)

// mechanism is what both sides know about one.
type mechanism struct {
	name  string
	has   Options
	first bool // the client may send its response with the command
	hash  func() hash.Hash
	serve func(m *mechanism, d *dialogue) step // nil: not on the server's side
	speak func(m *mechanism, c Credentials) Client
}

const scramHas = NoPlaintext | NoAnonymous | NoActive | MutualAuth

// mechanisms in the order of the Cyrus library's own list.
func mechanisms() []mechanism {
	return []mechanism{
		{"SCRAM-SHA-512", scramHas, true, sha512.New, (*mechanism).serveScram, newScram},
		{"SCRAM-SHA-384", scramHas, true, sha512.New384, (*mechanism).serveScram, newScram},
		{"SCRAM-SHA-256", scramHas, true, sha256.New, (*mechanism).serveScram, newScram},
		{"SCRAM-SHA-224", scramHas, true, sha256.New224, (*mechanism).serveScram, newScram},
		{"SCRAM-SHA-1", scramHas, true, sha1.New, (*mechanism).serveScram, newScram},
		{"DIGEST-MD5", NoPlaintext | NoAnonymous | MutualAuth, false, nil, serveDigest, newDigest},
		{"CRAM-MD5", NoPlaintext | NoAnonymous, false, nil, serveCram, newCram},
		{"PLAIN", NoAnonymous, true, nil, servePlain, newPlain},
		{"LOGIN", NoAnonymous, false, nil, serveLogin, newLogin},
		{"ANONYMOUS", NoPlaintext, true, nil, serveAnonymous, nil},
		{"XOAUTH2", NoAnonymous, true, nil, nil, newXOAuth2},
	}
}

// findMechanism looks a name up without regard to case; nil if it is not known.
func findMechanism(name string) *mechanism {
	list := mechanisms()
	for i := range list {
		if strings.EqualFold(list[i].name, name) {
			return &list[i]
		}
	}
	return nil
}
