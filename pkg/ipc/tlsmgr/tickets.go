package tlsmgr

import (
	"context"
	"errors"
	"time"

	"posthaste/pkg/ipc/dial"
	mailtls "posthaste/pkg/wire/tls"
)

// ticketTimeout bounds a question for a ticket key. A TLS handshake waits for
// the answer, and can do without.
const ticketTimeout = 2 * time.Second

// Tickets makes the named tlsmgr the source of a server's ticket keys, so that
// a session can be resumed with any of its processes.
func Tickets(service string, log dial.Logger) mailtls.KeySource {
	client := &Client{Dialer: dial.Dialer{Timeout: ticketTimeout, Log: log}, Service: service, Once: true}
	return func(ctx context.Context, name []byte) (mailtls.TicketKey, bool, error) {
		key, err := client.TicketKey(ctx, name)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRefused) {
			return mailtls.TicketKey{}, false, nil
		}
		if err != nil {
			return mailtls.TicketKey{}, false, err
		}
		return mailtls.NewTicketKey(key.Name, key.Cipher, key.MAC, key.Until), true, nil
	}
}
