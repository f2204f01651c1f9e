// Package showq is the daemon showq: it lists the messages in the queue, with
// the recipients who still wait and why, to postqueue and mailq (spec queue.md
// §4.1). It reads nothing from its client and changes nothing.
//
// Both the queue and each message are streamed. A damaged file is a warning,
// and is shown as far as it can be read.
package showq

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/showq"
	"posthaste/pkg/message/address"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/bouncelog"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// Main runs the daemon.
func Main(args []string) int {
	return service.Run(service.Service{
		Name: "showq",
		Kind: service.Single,
		Serve: func(ctx context.Context, conn *service.Conn) error {
			rt := conn.Runtime
			spool := queue.Open(".", rt.Config).WithLog(rt.Log)
			l := newLister(rt.Config, spool, rt.Log)
			return l.list(ctx, showq.NewWriter(attr.NewWriter(conn, attr.Null)))
		},
	}, args, os.Environ())
}

// lister lists one spool.
type lister struct {
	spool     *queue.Spool
	log       *maillog.Logger
	empty     string // empty_address_recipient
	duplicate int    // duplicate_filter_limit
	utf8      bool   // smtputf8_enable
}

func newLister(cfg *conf.Config, spool *queue.Spool, log *maillog.Logger) *lister {
	return &lister{
		spool:     spool,
		log:       log,
		empty:     cfg.String("empty_address_recipient"),
		duplicate: cfg.Int("duplicate_filter_limit"),
		utf8:      cfg.Bool("smtputf8_enable"),
	}
}

var queues = [...]string{queue.Maildrop, queue.Active, queue.Incoming, queue.Deferred, queue.Hold}

// list sends the whole list. The error is that of the client's connection.
func (l *lister) list(ctx context.Context, out *showq.Writer) error {
	if err := out.Begin(); err != nil {
		return err
	}
	for _, name := range queues {
		last := ""
		for id, err := range l.spool.Scan(name) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				l.log.Warn("open directory %s: %v", name, maillog.Errno(err))
				continue
			}
			if id == last {
				l.log.Warn("readdir loop on queue %s id %s", name, id)
				break
			}
			last = id
			if err := l.file(out, name, id); err != nil {
				return err
			}
		}
	}
	return out.End()
}

func (l *lister) file(out *showq.Writer, name, id string) error {
	info, ok := l.spool.Ready(name, id)
	if !ok {
		return nil
	}
	f, err := l.spool.Open(name, id, os.O_RDONLY)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("open %s %s: %v", name, id, maillog.Errno(err))
		}
		return nil
	}
	defer f.Close()
	m := message{lister: l, out: out, id: id, r: record.NewReader(f), file: info}
	m.r.Path = l.spool.Path(name, id)
	m.head = showq.Message{Queue: name, ID: id, ForcedExpire: info.Mode()&queue.ModeExpire != 0}
	return m.show()
}

// message is one message on its way from the file to the client.
type message struct {
	*lister
	out  *showq.Writer
	id   string
	r    *record.Reader
	file fs.FileInfo
	head showq.Message
	size int64 // of the content, from the size record; 0 is not known
	sent bool  // head has been sent
	seen map[string]bool
}

// show reads records up to the end of the message, or to damage.
func (m *message) show() error {
	for {
		t, data, err := m.r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			m.log.Warn("%v", err)
			return nil
		}
		more, err := m.record(t, data)
		if !more || err != nil {
			return err
		}
	}
}

// record takes one record. more is false when the rest of the file is of no
// use; the error is the client's.
func (m *message) record(t record.Type, data []byte) (more bool, err error) {
	switch t {
	case record.TypeTime:
		if m.head.Time == 0 {
			m.head.Time = leadingNumber(string(data))
		}
	case record.TypeSize:
		m.sizeRecord(string(data))
	case record.TypeFrom:
		sender := m.external(string(data))
		if m.sent {
			m.log.Warn("%s: duplicate sender address: %s -- skipping remainder of this file", m.id, sender)
			return false, nil
		}
		return true, m.begin(sender)
	case record.TypeRcpt:
		rcpt := m.external(string(data))
		if !m.sent {
			m.log.Warn("%s: missing sender address: %s -- skipping remainder of this file", m.id, rcpt)
			return false, nil
		}
		if !m.seen[rcpt] {
			return true, m.out.Recipient(showq.Recipient{Address: rcpt})
		}
	case record.TypeMessage:
		if m.size > 0 && m.r.SeekTo(m.r.Tell()+m.size) != nil {
			return false, nil
		}
	case record.TypeEnd:
		return false, nil
	}
	return true, nil
}

func (m *message) sizeRecord(text string) {
	s, n := record.ParseSize([]byte(text))
	if n == 0 || strings.Trim(text, "0123456789 \t\n\v\f\r") != "" {
		m.log.Warn("%s: malformed size record: %.100s -- using file size instead", m.id, text)
		return
	}
	if m.size == 0 {
		m.size = s.ContentSize
	}
}

// begin sends what is known of the message, and of its deferred recipients.
func (m *message) begin(sender string) error {
	m.sent = true
	m.head.Sender = sender
	m.head.Size = m.size
	if m.size == 0 {
		m.head.Size = m.file.Size()
	}
	if m.head.Time == 0 {
		m.head.Time = m.file.ModTime().Unix()
	}
	if err := m.out.Message(m.head); err != nil {
		return err
	}
	m.seen = map[string]bool{}
	return m.deferred()
}

// deferred sends the recipients in the defer log, with the reasons there.
func (m *message) deferred() error {
	f, err := m.spool.Open(queue.Defer, m.id, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		m.log.Warn("open %s %s: %v", queue.Defer, m.id, maillog.Errno(err))
		return nil
	}
	defer f.Close()
	r := bouncelog.NewReader(f, m.spool.Path(queue.Defer, m.id), true)
	r.Log, r.UTF8 = m.log, m.utf8
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			m.log.Warn("read %s %s: %v", queue.Defer, m.id, maillog.Errno(err))
			return nil
		}
		if len(m.seen) < m.duplicate {
			m.seen[e.Rcpt] = true
		}
		if err := m.out.Recipient(showq.Recipient{Address: e.Rcpt, Reason: e.Status.Reason}); err != nil {
			return err
		}
	}
}

// external is an address as it is shown.
func (m *message) external(internal string) string {
	if internal == "" {
		return m.empty
	}
	return m.printable(address.Quote(internal))
}

func (l *lister) printable(s string) string { return showq.Printable(s, l.utf8) }

func leadingNumber(text string) int64 {
	word, _, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
