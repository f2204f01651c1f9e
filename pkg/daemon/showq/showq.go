// Package showq is the daemon showq: it lists the messages in the queue, with
// the recipients who still wait and why, to postqueue and mailq (spec queue.md
// §4.1). It reads nothing from its client and changes nothing.
//
// Both the queue and each message are streamed. A damaged file is a warning,
// and is shown as far as it can be read.
package showq

import (
	"bufio"
	"context"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/showq"
	"posthaste/pkg/message/address"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/bouncelog"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/quick"
)

// Main runs the daemon.
func Main(args []string) int {
	return service.Run(service.Service{
		Name: "showq",
		Kind: service.Single,
		Setup: func(*service.Runtime) error {
			// Next to nothing is held: to collect often costs little, and a long
			// queue takes no more memory than a short one.
			debug.SetGCPercent(100)
			return nil
		},
		Serve: func(ctx context.Context, conn *service.Conn) error {
			rt := conn.Runtime
			spool := queue.Open(".", rt.Config).WithLog(rt.Log)
			l := newLister(rt.Config, spool, rt.Log)
			out := bufio.NewWriterSize(conn, outputSize)
			return l.list(ctx, showq.NewWriter(attr.NewWriter(out, attr.Null)))
		},
	}, args, os.Environ())
}

// fewSeen is how many recipients' place in the memory is worth being kept.
const fewSeen = 64

// outputSize is what is sent to the client at once: some hundred messages, so
// that neither of us is woken for each of them.
const outputSize = 32 << 10

// lister lists one spool. It is for one client.
type lister struct {
	spool     *queue.Spool
	log       *maillog.Logger
	empty     string // empty_address_recipient
	duplicate int    // duplicate_filter_limit
	utf8      bool   // smtputf8_enable

	message quick.Plain // what is being read
	reasons quick.Plain // its defer log
	records *record.Reader
	entries *bouncelog.Reader
	seen    map[string]bool // recipients in the log
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
			if err := l.show(out, name, id); err != nil {
				return err
			}
		}
	}
	return out.End()
}

// show sends the message in a file.
func (l *lister) show(out *showq.Writer, name, id string) error {
	st, ok := l.spool.Look(name, id, &l.message)
	if !ok {
		return nil
	}
	defer l.message.Close()
	if l.records == nil {
		l.records = record.NewReader(&l.message)
	}
	l.records.Reset(&l.message)
	l.records.Path = l.spool.Path(name, id)
	m := message{lister: l, out: out, id: id, r: l.records, file: st}
	m.head = showq.Message{Queue: name, ID: id, ForcedExpire: st.Mode&uint32(queue.ModeExpire) != 0}
	return m.read()
}

// message is one message on its way from the file to the client.
type message struct {
	*lister
	out  *showq.Writer
	id   string
	r    *record.Reader
	file syscall.Stat_t
	head showq.Message
	size int64 // of the content, from the size record; 0 is not known
	sent bool  // head has been sent
}

// read reads records up to the end of the message, or to damage.
func (m *message) read() error {
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
		m.head.Size = m.file.Size
	}
	if m.head.Time == 0 {
		m.head.Time = int64(m.file.Mtim.Sec)
	}
	if err := m.out.Message(m.head); err != nil {
		return err
	}
	m.forget()
	return m.deferred()
}

// forget empties what is known of another message's recipients.
func (l *lister) forget() {
	if l.seen == nil || len(l.seen) > fewSeen {
		l.seen = make(map[string]bool)
	}
	clear(l.seen)
}

// deferred sends the recipients in the defer log, with the reasons there.
func (m *message) deferred() error {
	if !m.spool.LookLog(queue.Defer, m.id, &m.reasons) {
		return nil
	}
	defer m.reasons.Close()
	if m.entries == nil {
		m.entries = bouncelog.NewReader(nil, "", true)
		m.entries.Log, m.entries.UTF8 = m.log, m.utf8
	}
	r := m.entries
	r.Reset(&m.reasons, m.spool.Path(queue.Defer, m.id))
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
