package bouncelog

import (
	"bufio"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
)

// What stands in an entry that lacks something (spec queue.md §3.1).
const (
	UnknownRcpt   = "(recipient address unavailable)"
	EmptyRcpt     = "(MAILER-DAEMON)"
	UnknownReason = "(description unavailable)"
	maxLine       = 64 << 10 // bytes of a line; the rest of a longer one is dropped
)

// Logger is told about lines that make no sense. *maillog.Logger is one.
type Logger interface {
	Warn(format string, args ...any)
}

// Read yields the entries of a log in order. The error of opening it
// (fs.ErrNotExist when there is none) or reading it comes last, with a zero
// Entry. log may be nil.
func Read(s *queue.Spool, service, id string, log Logger) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := s.Open(service, id, os.O_RDONLY)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer f.Close()
		r := NewReader(f, s.Path(service, id), service == queue.Defer)
		if log != nil {
			r.Log = log
		}
		for {
			e, err := r.Next()
			if err == io.EOF {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Reader reads a log from a stream.
type Reader struct {
	Log  Logger // never nil
	UTF8 bool   // leave valid UTF-8 in lines (smtputf8_enable)

	in       *bufio.Reader
	path     string
	defaults dsn.Status
	long     []byte // a line that does not fit into the buffer of in
}

type silent struct{}

func (silent) Warn(string, ...any) {}

// NewReader returns a Reader. path is the log's name in warnings; deferred
// says that it is a defer log, whose entries have another default status.
func NewReader(in io.Reader, path string, deferred bool) *Reader {
	r := &Reader{Log: silent{}, in: bufio.NewReader(in), path: path}
	r.defaults = dsn.Status{Code: "5.0.0", Action: "failed", Reason: UnknownReason}
	if deferred {
		r.defaults = dsn.Status{Code: "4.0.0", Action: "delayed", Reason: UnknownReason}
	}
	return r
}

// Reset makes the Reader read another log of the same kind.
func (r *Reader) Reset(in io.Reader, path string) {
	r.in.Reset(in)
	r.path = path
}

// Next returns the next entry, io.EOF at the end.
func (r *Reader) Next() (Entry, error) {
	e := Entry{Rcpt: UnknownRcpt, Status: r.defaults}
	for begun := false; ; {
		line, err := r.line()
		switch {
		case err == io.EOF && begun:
			return e, nil
		case err != nil:
			return Entry{}, err
		case len(line) == 0 && begun:
			return e, nil
		case len(line) > 0:
			begun = true
			r.parse(&e, line)
		}
	}
}

// line returns the next line, made printable; it is good until the next call.
func (r *Reader) line() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.long = r.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			r.keep(line)
			line, err = r.in.ReadSlice('\n')
		}
		r.keep(line)
		line = r.long
	}
	if err != nil && (err != io.EOF || len(line) == 0) {
		return nil, err
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	maskLine(line, r.UTF8)
	return line, nil
}

// keep adds a part to a long line, up to maxLine.
func (r *Reader) keep(part []byte) {
	r.long = append(r.long, part[:min(len(part), maxLine-len(r.long))]...)
}

// maskLine replaces what is not printable by '?', byte for byte.
func maskLine(line []byte, utf8Mode bool) {
	for i := 0; i < len(line); {
		if c := line[i]; c >= ' ' && c < 0x7f {
			i++
			continue
		}
		if _, n := utf8.DecodeRune(line[i:]); utf8Mode && n > 1 {
			i += n
			continue
		}
		line[i] = '?'
		i++
	}
}

func (r *Reader) parse(e *Entry, line []byte) {
	if !alphanumeric(line[0]) {
		r.parseOld(e, string(line))
		return
	}
	name, value, err := record.CutAttr(line)
	if err != nil {
		r.Log.Warn("%s: malformed record: %v", r.path, err)
		return
	}
	set, ok := setters[string(name)]
	if !ok {
		r.Log.Warn("%s: unknown attribute name: %s, ignored", r.path, name)
		return
	}
	set(e, string(value))
}

var setters = map[string]func(e *Entry, value string){
	"recipient": func(e *Entry, v string) {
		e.Rcpt = v
		if v == "" {
			e.Rcpt = EmptyRcpt
		}
	},
	"original_recipient": func(e *Entry, v string) { e.OrigRcpt = v },
	"dsn_orig_rcpt":      func(e *Entry, v string) { e.DSNOrigRcpt = v },
	"offset":             func(e *Entry, v string) { e.Offset, _ = strconv.ParseInt(v, 10, 64) },
	"notify_flags": func(e *Entry, v string) {
		n, err := strconv.Atoi(v)
		if n := dsn.Notify(n); err == nil && n.Valid() {
			e.Notify = n
		}
	},
	"status": func(e *Entry, v string) {
		if dsn.Valid(v) {
			e.Status.Code = v
		}
	},
	"action":    func(e *Entry, v string) { e.Status.Action = v },
	"diag_type": func(e *Entry, v string) { e.Status.DiagType = v },
	"diag_text": func(e *Entry, v string) { e.Status.DiagText = v },
	"mta_type":  func(e *Entry, v string) { e.Status.MTAType = v },
	"mta_mname": func(e *Entry, v string) { e.Status.MTAName = v },
	"reason": func(e *Entry, v string) {
		e.Status.Reason = v
		if v == "" {
			e.Status.Reason = UnknownReason
		}
	},
}

// parseOld reads "<address>: reason", the form of before Postfix 2.1.
func (r *Reader) parseOld(e *Entry, line string) {
	addr, reason, ok := strings.Cut(line, ">: ")
	if !ok || addr == "" || addr[0] != '<' {
		r.Log.Warn("%s: malformed record: %.30s...", r.path, line)
		return
	}
	e.Rcpt = addr[1:]
	if e.Rcpt == "" {
		e.Rcpt = EmptyRcpt
	}
	e.Status.Reason = strings.TrimLeft(reason, " \t")
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
