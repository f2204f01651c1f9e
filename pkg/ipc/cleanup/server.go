package cleanup

import (
	"io"

	"posthaste/pkg/ipc/attr"
)

// Announce is the server's first list.
func Announce(w io.Writer, queueID string) error {
	return attr.NewWriter(w, attr.Null).Str("protocol", Protocol).Str("queue_id", queueID).Send()
}

// ReadFlags reads the client's list. An error other than io.EOF means
// StatusBad.
func ReadFlags(r *attr.Reader) (Flags, error) {
	var flags int
	err := r.Scan(attr.Int("flags", &flags))
	return Flags(flags), err
}

// Reply is the server's last list.
func Reply(w io.Writer, r Result) error {
	return attr.NewWriter(w, attr.Null).Int("status", int(r.Status)).Str("reason", r.Reason).Send()
}
