package mailtls

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// ticketName is the length of the name that a ticket begins with, in bytes: it
// says which key the rest is sealed with.
const ticketName = 16

// Limits of what a server knows of ticket keys.
const (
	maxTicketKeys = 8
	askAgain      = time.Minute // after a failure the source is left alone for so long
)

// TicketKey is a key that session tickets are sealed with.
type TicketKey struct {
	Name   [ticketName]byte
	Secret [32]byte
	Until  time.Time // new tickets are sealed with it until then
}

// NewTicketKey makes a key of the two that tlsmgr deals out.
func NewTicketKey(name [ticketName]byte, cipher, mac [32]byte, until time.Time) TicketKey {
	return TicketKey{name, sha256.Sum256(append(append([]byte("posthaste session ticket"), cipher[:]...), mac[:]...)), until}
}

// KeySource finds the key of a name, or the one for new tickets if name is
// empty. It is where the processes of a service have their keys in common:
// tlsmgr. found is false for a name that is not known (any more); an error is
// that the source cannot be asked.
type KeySource func(ctx context.Context, name []byte) (key TicketKey, found bool, err error)

// Tickets are the keys of a server. While the Source has none to give the
// server uses keys of its own, so that sessions are resumed at least by the
// process that they began with. It is safe for concurrent use.
type Tickets struct {
	Life   time.Duration    // of a session (smtpd_tls_session_cache_timeout); positive
	Now    func() time.Time // the clock
	Source KeySource        // nil is none

	mu    sync.Mutex
	keys  []ticketKey // the newest first; the first is for new tickets
	quiet time.Time   // until then the source is not asked
}

// ticketKey is a key ready for use.
type ticketKey struct {
	TicketKey
	own    bool // not from the source
	sealer *tls.Config
}

func newTicketKey(k TicketKey, own bool) ticketKey {
	sealer := &tls.Config{}
	sealer.SetSessionTicketKeys([][32]byte{k.Secret})
	return ticketKey{k, own, sealer}
}

// gone tells when a key does not open tickets any more: it seals for half of
// the life of a session and opens for the other half.
func (t *Tickets) gone(k *ticketKey) time.Time { return k.Until.Add(t.Life / 2) }

// current is the key for new tickets.
func (t *Tickets) current(ctx context.Context) ticketKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.Now()
	t.keys = slices.DeleteFunc(t.keys, func(k ticketKey) bool { return !now.Before(t.gone(&k)) })
	usable := len(t.keys) > 0 && !now.After(t.keys[0].Until)
	if usable && (!t.keys[0].own || !t.mayAsk(now)) {
		return t.keys[0]
	}
	if k, found := t.ask(ctx, nil, now); found {
		return t.add(newTicketKey(k, false))
	}
	if usable {
		return t.keys[0]
	}
	k := TicketKey{Until: now.Add(t.Life / 2)}
	rand.Read(k.Name[:])
	rand.Read(k.Secret[:])
	return t.add(newTicketKey(k, true))
}

// named is the key of a name.
func (t *Tickets) named(ctx context.Context, name []byte) (ticketKey, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.Now()
	for _, k := range t.keys {
		if bytes.Equal(k.Name[:], name) {
			return k, now.Before(t.gone(&k))
		}
	}
	k, found := t.ask(ctx, name, now)
	if !found || !bytes.Equal(k.Name[:], name) {
		return ticketKey{}, false
	}
	ready := newTicketKey(k, false)
	if len(t.keys) == 0 { // it is not for new tickets
		return ready, true
	}
	t.keys = append(t.keys[:1:1], append([]ticketKey{ready}, t.keys[1:]...)...)
	t.trim()
	return ready, true
}

func (t *Tickets) mayAsk(now time.Time) bool { return t.Source != nil && !now.Before(t.quiet) }

// ask asks the source, unless that failed a moment ago.
func (t *Tickets) ask(ctx context.Context, name []byte, now time.Time) (TicketKey, bool) {
	if !t.mayAsk(now) {
		return TicketKey{}, false
	}
	k, found, err := t.Source(context.WithoutCancel(ctx), name)
	if err != nil || !found && name == nil {
		t.quiet = now.Add(askAgain)
	}
	return k, found && err == nil && now.Before(k.Until.Add(t.Life/2))
}

// add puts a key first.
func (t *Tickets) add(k ticketKey) ticketKey {
	t.keys = slices.DeleteFunc(t.keys, func(old ticketKey) bool { return old.Name == k.Name })
	t.keys = append([]ticketKey{k}, t.keys...)
	t.trim()
	return k
}

func (t *Tickets) trim() {
	if len(t.keys) > maxTicketKeys {
		t.keys = t.keys[:maxTicketKeys]
	}
}

// TicketUse tells about the tickets of a handshake.
type TicketUse struct {
	Issued time.Time // until when the key for a new ticket is used
	Opened time.Time // the same of the ticket that the client came with; zero is none
}

// Arm makes a configuration for one connection use the tickets; what happens
// is written to use. ctx is for asking the source.
func (t *Tickets) Arm(ctx context.Context, cfg *tls.Config, use *TicketUse) {
	k := t.current(ctx)
	use.Issued = k.Until
	cfg.WrapSession = func(cs tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
		sealed, err := k.sealer.EncryptTicket(cs, state)
		if err != nil {
			return nil, err
		}
		return append(k.Name[:], sealed...), nil
	}
	cfg.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		if len(ticket) <= ticketName {
			return nil, nil
		}
		k, found := t.named(ctx, ticket[:ticketName])
		if !found {
			return nil, nil
		}
		state, err := k.sealer.DecryptTicket(ticket[ticketName:], cs)
		if err == nil && state != nil {
			use.Opened = k.Until
		}
		return state, err
	}
}
