package maillog

import (
	"io"
	"time"
)

// Divert makes l and all Loggers derived from it write their records, in the
// form of the log file, to w: postlogd need not send datagrams to itself.
func (l *Logger) Divert(w io.Writer) {
	s := l.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil {
		s.out.close()
	}
	s.out = &direct{postlog: &postlog{tag: tagOf(s.cfg), host: firstLabel(s.cfg.Hostname), fd: -1}, w: w}
}

// direct writes records of the log file's form to a Writer.
type direct struct {
	*postlog
	w io.Writer
}

func (o *direct) write(_ Level, text string, when time.Time) error {
	_, err := io.WriteString(o.w, o.record(text, when)+"\n")
	return err
}

func (o *direct) close() {}

// Relay hands other programs' records to syslog, for postlogd without a log
// file.
type Relay struct{ out *syslog }

// NewRelay connects to syslog; facility is as in Config.
func NewRelay(facility string) *Relay { return &Relay{newSyslog(Config{Facility: facility})} }

// Send sends text at level info in the name of ident ("postfix/smtpd[123]").
func (r *Relay) Send(ident, text string) {
	r.out.tag = ident
	_ = r.out.write(LevelInfo, text, time.Now())
}
