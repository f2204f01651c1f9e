// Package maillog is where every program says what happened: to syslog, to
// the postlog socket, to standard error, or (when the socket cannot be
// reached) to a file (spec master.md §8).
//
// There are five words for trouble. Info is the record of normal work,
// Warn something the administrator should look at, Error something that was
// not done, Fatal a broken environment (the process ends), Panic a mistake of
// ours. What a peer does wrong is data and not a level.
//
// No method returns an error: a record that cannot be delivered is dropped.
package maillog

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Level is the severity of a record.
type Level int

// The levels, mildest first.
const (
	LevelInfo Level = iota
	LevelWarning
	LevelError
	LevelFatal
	LevelPanic
)

// levels has the word before the text and the syslog priority of each Level.
var levels = [...]struct {
	word     string
	priority int
}{
	LevelInfo:    {"", 6},
	LevelWarning: {"warning: ", 4},
	LevelError:   {"error: ", 3},
	LevelFatal:   {"fatal: ", 2},
	LevelPanic:   {"panic: ", 2},
}

const (
	maxText   = 2000 // bytes of a record's text
	maxErrors = 12   // the next error record ends the program
	fatalWait = time.Second
)

// Config says where records go.
type Config struct {
	Tag           string    // in front of each record: "postfix/smtpd"
	Facility      string    // of syslog; "" is "mail"
	Stderr        bool      // also write "TAG: text" to standard error
	StderrTag     string    // tag of that form; "" is the last part of Tag
	StderrOnly    bool      // nothing but standard error
	LastResort    bool      // what cannot be delivered goes to standard error
	PostlogSocket string    // if not empty: datagrams to it instead of syslog
	Hostname      string    // of postlog records, cut at the first dot; "" is "amnesiac"
	FallbackFile  string    // appended to when the postlog socket can't be reached; "" drops the record
	Verbose       int       // what Verbose returns
	ManyErrors    bool      // the thirteenth error record does not end the program: a daemon with many clients
	UTF8          bool      // leave UTF-8 in records (smtputf8_enable)
	ErrorOutput   io.Writer // instead of os.Stderr

	Exit  func(code int)        // instead of os.Exit
	Sleep func(d time.Duration) // instead of time.Sleep, before a fatal exit
	Now   func() time.Time      // instead of time.Now
}

// Logger writes records. It is safe for concurrent use; a nil *Logger
// discards what it is given (but Fatal still ends the process).
type Logger struct {
	sink    *sink
	verbose int
	own     bool // verbose overrides the sink's
}

// sink is what all Loggers of one origin share.
type sink struct {
	mu      sync.Mutex
	cfg     Config
	out     output
	errors  int
	capture *Buffer
}

// output is a transport of finished records.
type output interface {
	write(level Level, text string, when time.Time) error
	close()
}

// New returns a Logger and connects it, so that it works after a chroot.
func New(cfg Config) *Logger {
	l := &Logger{sink: &sink{}}
	l.Reset(cfg)
	return l
}

// Discard returns a Logger that drops everything; Fatal ends the process.
func Discard() *Logger { return &Logger{sink: &sink{}} }

// Reset changes where l and all Loggers derived from it write: programs do so
// when they have read main.cf.
func (l *Logger) Reset(cfg Config) {
	s := l.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil {
		s.out.close()
	}
	s.cfg = cfg
	switch {
	case cfg.StderrOnly:
		s.out = nil
	case cfg.PostlogSocket != "":
		s.out = newPostlog(cfg)
	default:
		s.out = newSyslog(cfg)
	}
}

// With returns a Logger to the same place with another verbosity: for one
// session with a peer of debug_peer_list.
func (l *Logger) With(verbose int) *Logger {
	if l == nil {
		return nil
	}
	return &Logger{sink: l.sink, verbose: verbose, own: true}
}

// Verbose is the number of -v options.
func (l *Logger) Verbose() int {
	switch {
	case l == nil || l.sink == nil:
		return 0
	case l.own:
		return l.verbose
	}
	l.sink.mu.Lock()
	defer l.sink.mu.Unlock()
	return l.sink.cfg.Verbose
}

// Info records normal work.
func (l *Logger) Info(format string, a ...any) { l.Log(LevelInfo, format, a...) }

// Warn records what the administrator should look at.
func (l *Logger) Warn(format string, a ...any) { l.Log(LevelWarning, format, a...) }

// Error records what was not done. The thirteenth ends the program, unless it
// is a daemon.
func (l *Logger) Error(format string, a ...any) { l.Log(LevelError, format, a...) }

// Fatal records that the program cannot work, waits a second and ends it with
// exit status 1. It does not return.
func (l *Logger) Fatal(format string, a ...any) {
	l.Log(LevelFatal, format, a...)
	l.leave(1)
}

// Panic records a mistake of ours; it returns, and what was to be done for
// one client is given up by the caller.
func (l *Logger) Panic(format string, a ...any) { l.Log(LevelPanic, format, a...) }

// Log records text at a level without any other effect, but for the limit on
// the number of errors.
func (l *Logger) Log(level Level, format string, a ...any) {
	if l == nil || l.sink == nil {
		return
	}
	text := format
	if len(a) > 0 {
		text = fmt.Sprintf(format, a...)
	}
	if l.sink.put(level, text) {
		l.Log(LevelFatal, "too many errors - program terminated")
		l.leave(1)
	}
}

func (l *Logger) leave(code int) {
	exit, sleep := os.Exit, time.Sleep
	if l != nil && l.sink != nil {
		l.sink.mu.Lock()
		if l.sink.cfg.Exit != nil {
			exit = l.sink.cfg.Exit
		}
		if l.sink.cfg.Sleep != nil {
			sleep = l.sink.cfg.Sleep
		}
		l.sink.mu.Unlock()
	}
	sleep(fatalWait)
	exit(code)
}

// put writes one record; tooMany is set for the error record past the limit.
func (s *sink) put(level Level, text string) (tooMany bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text = levels[level].word + text
	if len(text) > maxText {
		text = text[:maxText]
	}
	text = printable(text, s.cfg.UTF8)
	if level == LevelError {
		s.errors++
		tooMany = s.errors > maxErrors && !s.cfg.ManyErrors
	}
	if s.capture != nil {
		s.capture.add(text)
		return tooMany
	}
	if s.cfg.Stderr || s.cfg.StderrOnly {
		s.toStderr(text)
	}
	if s.out != nil {
		now := time.Now
		if s.cfg.Now != nil {
			now = s.cfg.Now
		}
		err := s.out.write(level, text, now())
		if err != nil && s.cfg.LastResort && !s.cfg.Stderr {
			s.toStderr(text)
		}
	}
	return tooMany
}

func (s *sink) toStderr(text string) {
	var w io.Writer = os.Stderr
	if s.cfg.ErrorOutput != nil {
		w = s.cfg.ErrorOutput
	}
	tag := s.cfg.StderrTag
	if tag == "" {
		tag = filepath.Base(s.cfg.Tag)
	}
	fmt.Fprintf(w, "%s: %s\n", tag, text)
}

// printable replaces what could confuse a reader of the log by '?'.
func printable(s string, utf8 bool) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	b := []byte(s)
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c >= ' ' && c <= '~':
		case utf8 && c >= 0xc2 && c <= 0xfe && i+1 < len(b) && continuation(b[i+1]):
			for i+1 < len(b) && continuation(b[i+1]) {
				i++
			}
		default:
			b[i] = '?'
		}
	}
	return string(b)
}

func continuation(c byte) bool { return c >= 0x80 && c <= 0xbf }
