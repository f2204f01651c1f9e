// Package bouncelog is the per-message logs of recipients that failed, were
// deferred, or were traced: the files bounce/ID, defer/ID and trace/ID (spec
// queue.md §3.1). The daemon bounce writes them and makes reports of them;
// showq and the queue manager read them.
//
// Append returns nil when the entry is on stable storage. Its errors, and
// those of Read's file, are the system's; ErrBusy means that the log was
// locked all the time. Bad lines are not errors: Read tells them to a Logger
// and makes the best of the rest, because a damaged log must not stop a
// report.
package bouncelog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
)

// ErrBusy is returned when another process kept the log locked.
var ErrBusy = queue.ErrBusy

// Entry is what a log says about one recipient.
type Entry struct {
	// Rcpt and OrigRcpt are addresses in external (quoted) form: they stand
	// in the file as they are here. Append writes an empty Rcpt as "<>".
	Rcpt        string
	OrigRcpt    string // before rewriting; empty when not known
	Offset      int64  // of the recipient in the queue file; 0 or less: not known
	DSNOrigRcpt string // "rfc822;user@example.com"
	Notify      dsn.Notify
	Status      dsn.Status
}

// Options of Append.
type Options struct {
	OldStyle     bool          // backwards_bounce_logfile_compatibility: a first line "<addr>: reason"
	LockAttempts int           // deliver_lock_attempts; 0 is 20
	LockDelay    time.Duration // deliver_lock_delay; 0 is a second
	// Sleep replaces time.Sleep in tests.
	Sleep func(time.Duration)
}

const (
	defaultAttempts = 20
	defaultDelay    = time.Second
)

// Append adds an entry to the log of a message, creating it if need be.
// service is queue.Bounce, queue.Defer or queue.Trace. The entry is appended in
// one write under an exclusive lock and fsynced, and the name of a new log is
// made durable, too. After a failure the file is cut back to what it was.
func Append(s *queue.Spool, service, id string, e Entry, o Options) error {
	f, err := s.OpenLog(service, id, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open file %s %s: %w", service, id, err)
	}
	defer f.Close()
	if err := lock(f, o); err != nil {
		return fmt.Errorf("lock file %s %s: %w", service, id, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	text := e.AppendText(nil, o.OldStyle)
	if err := s.Write(f, text); err != nil {
		return cutBack(f, size, fmt.Errorf("append file %s %s: %w", service, id, err))
	}
	if size == 0 {
		err = s.SyncNew(s.Path(service, id), f)
	} else {
		err = s.SyncFile(f)
	}
	if err != nil {
		return cutBack(f, size, fmt.Errorf("append file %s %s: %w", service, id, err))
	}
	return nil
}

func cutBack(f *os.File, size int64, cause error) error {
	if err := f.Truncate(size); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// lock tries again and again, the delay varied by a quarter so that waiters do
// not move in step.
func lock(f *os.File, o Options) error {
	attempts, delay, sleep := o.LockAttempts, o.LockDelay, o.Sleep
	if attempts <= 0 {
		attempts = defaultAttempts
	}
	if delay <= 0 {
		delay = defaultDelay
	}
	if sleep == nil {
		sleep = time.Sleep
	}
	for n := 1; ; n++ {
		err := queue.Lock(f, true)
		if !errors.Is(err, ErrBusy) || n >= attempts {
			return err
		}
		sleep(delay*3/4 + rand.N(delay/2+1))
	}
}

// AppendText appends the entry to b as it stands in a log.
func (e Entry) AppendText(b []byte, oldStyle bool) []byte {
	put := func(name, value string) {
		b = append(b, name...)
		b = append(b, '=')
		b = append(b, oneLine(value)...)
		b = append(b, '\n')
	}
	optional := func(name, value string) {
		if value != "" {
			put(name, value)
		}
	}
	rcpt := e.Rcpt
	b = append(b, '\n')
	if oldStyle {
		if rcpt == "" {
			b = append(b, "<>: "...)
		} else {
			b = append(b, "<"+oneLine(rcpt)+">: "...)
		}
		b = append(b, oneLine(e.Status.Reason)...)
		b = append(b, '\n')
	}
	if rcpt == "" {
		rcpt = "<>"
	}
	put("recipient", rcpt)
	if e.OrigRcpt != "" && !strings.EqualFold(e.OrigRcpt, e.Rcpt) {
		put("original_recipient", e.OrigRcpt)
	}
	if e.Offset > 0 {
		put("offset", fmt.Sprint(e.Offset))
	}
	optional("dsn_orig_rcpt", e.DSNOrigRcpt)
	if e.Notify != 0 {
		put("notify_flags", fmt.Sprint(int(e.Notify)))
	}
	optional("status", e.Status.Code)
	optional("action", e.Status.Action)
	if e.Status.DiagType != "" && e.Status.DiagText != "" {
		put("diag_type", e.Status.DiagType)
		put("diag_text", e.Status.DiagText)
	}
	if e.Status.MTAType != "" && e.Status.MTAName != "" {
		put("mta_type", e.Status.MTAType)
		put("mta_mname", e.Status.MTAName)
	}
	optional("reason", e.Status.Reason)
	return append(b, '\n')
}

// oneLine keeps a value from breaking the format of the file.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return ' '
		}
		return r
	}, s)
}

// Remove removes a log. That there was none is not an error.
func Remove(s *queue.Spool, service, id string) error {
	err := s.Remove(service, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
