// Package sasl is SMTP authentication (RFC 4422, RFC 4954) on both sides.
//
// For a server, a Backend lists the mechanisms of a connection and runs their
// dialogues: Dovecot passes them to a Dovecot authentication server (spec
// ipc.md §3.4), Cyrus does itself what the Cyrus library does with Debian's
// settings, with the passwords of a sasldb file or of saslauthd (ipc.md §3.5).
// A client picks a Mechanism as that library would and runs it (delivery.md
// §2.10).
//
// What a peer does wrong is an Outcome or an error value whose text is the one
// that replies and logs have always shown; nothing here ends the process.
// Passwords and responses appear in no text that leaves the package.
package sasl

import (
	"context"
	"fmt"
	"strings"
)

// Options are demands on mechanisms (smtpd_sasl_security_options and the
// like); of a mechanism, the properties it has.
type Options uint8

// The demands.
const (
	NoPlaintext    Options = 1 << iota // the password does not travel readably
	NoActive                           // not open to active attacks
	NoDictionary                       // not open to passive dictionary attacks
	NoAnonymous                        // somebody is authenticated
	ForwardSecrecy                     // old sessions stay secret
	MutualAuth                         // the server proves itself, too
)

var optionNames = []struct {
	name string
	bit  Options
}{
	{"noplaintext", NoPlaintext}, {"noactive", NoActive}, {"nodictionary", NoDictionary},
	{"noanonymous", NoAnonymous}, {"forward_secrecy", ForwardSecrecy}, {"mutual_auth", MutualAuth},
}

// ParseOptions reads a list of security options. The error is the warning that
// is to be logged.
func ParseOptions(list string) (Options, error) {
	var o Options
next:
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		for _, n := range optionNames {
			if strings.EqualFold(word, n.name) {
				o |= n.bit
				continue next
			}
		}
		return o, fmt.Errorf("unknown SASL security options value \"%s\" in \"%s\"", word, list)
	}
	return o, nil
}

// Peer is what a backend is told about a connection.
type Peer struct {
	ServerAddr, ClientAddr string // numeric, "" if not known
	TLS                    bool
	Options                Options // demanded of mechanisms
}

// Status is how a dialogue stands after a step.
type Status byte

// The statuses.
const (
	Challenge Status = iota // go on: Text is the challenge in base64
	OK                      // User is authenticated
	Failed                  // no: Text is the reason
	Temporary               // the backend is in trouble: Text is the reason
)

// Outcome is the result of a step.
type Outcome struct {
	Status Status
	Text   string
	User   string // login name; after a failure the name that was tried, or ""
}

// Request begins a dialogue.
type Request struct {
	Peer
	Mechanism string  // as the client wrote it
	Initial   *string // initial response as the client wrote it, nil if there was none
}

// Backend authenticates clients. It is safe for concurrent use.
type Backend interface {
	// Mechanisms lists what is offered to a client, best first as the
	// backend sees it. An error's text is a warning to be logged.
	Mechanisms(ctx context.Context, p Peer) ([]string, error)
	// Start begins a dialogue. The exchange is nil unless the outcome is
	// Challenge.
	Start(ctx context.Context, r Request) (Exchange, Outcome)
}

// Exchange is a dialogue in progress.
type Exchange interface {
	// Next takes the client's response to the last challenge, as it was
	// sent.
	Next(ctx context.Context, response string) Outcome
}
