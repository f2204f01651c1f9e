package smtpsink

import (
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/load"
	"posthaste/pkg/conf"
)

const (
	optionSpec = "468aA:b:B:cCd:D:eEf:Fh:H:Lm:M:n:NpPq:Q:r:R:s:S:t:T:u:vw:W:"
	usageText  = "usage: %s [-468acCeEFLpPv] [-A abort_delay] [-b soft_bounce_reply] [-B hard_bounce_reply]" +
		" [-d dump-template] [-D dump-template] [-f commands] [-h hostname] [-m max_concurrency]" +
		" [-M message_quit_count] [-n quit_count] [-q commands] [-r commands] [-R root-dir] [-s commands]" +
		" [-S start-string] [-u user_privs] [-w delay] [host]:port backlog"

	defaultConcurrency = 256
	defaultTimeout     = 100 * time.Second
)

// settings are the command line.
type settings struct {
	family      int
	noESMTP     bool // -e: HELO only
	pix         bool
	lmtp        bool
	keywords    []string // of the EHLO reply
	disabled    []string // commands that are unknown: -C, -F
	hostname    string
	soft, hard  string // replies
	abort       time.Duration
	aborts      bool
	readDelay   time.Duration // -H
	show        bool          // -c
	dump        string        // strftime template
	dumpAll     bool          // -D: one file for many messages
	start       string        // -S
	concurrency int
	messages    int // -M, 0 is no limit
	sessions    int // -n
	root, user  string
	timeout     time.Duration
	window      int
	verbose     int
	behaviour   map[string]*behaviour // by command in upper case

	address string
	backlog int
}

// behaviour is what is special about a command.
type behaviour struct {
	log, drop, close421, hard, soft bool
	delay                           time.Duration
	odds                            int // percent, of waiting another time
}

// commandNames are what -f, -q, -Q, -r, -s and -W know.
var commandNames = []string{
	"CONNECT", "HELO", "EHLO", "LHLO", "XCLIENT", "XFORWARD", "AUTH", "MAIL", "RCPT", "DATA", ".", "RSET", "NOOP", "VRFY", "QUIT",
}

// usageError asks for the usage to be shown, after a message if there is one.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// announcements are the EHLO keywords, each with the option that hides it.
var announcements = []struct {
	hide    byte
	keyword string
}{
	{'p', "PIPELINING"}, {'8', "8BITMIME"}, {'a', "AUTH PLAIN LOGIN"}, {'C', "XCLIENT NAME HELO"},
	{'F', "XFORWARD NAME ADDR PROTO HELO"}, {'E', "ENHANCEDSTATUSCODES"}, {'N', "DSN"},
}

func newSettings() *settings {
	s := &settings{
		hostname: "smtp-sink", soft: "450 4.3.0 Error: command failed", hard: "500 5.3.0 Error: command failed",
		concurrency: defaultConcurrency, timeout: defaultTimeout, behaviour: map[string]*behaviour{},
	}
	for _, name := range commandNames {
		s.behaviour[name] = &behaviour{}
	}
	return s
}

// parse reads the command line without the program's name.
func parse(args []string) (*settings, error) {
	s := newSettings()
	given, rest, err := getopt.Parse(args, optionSpec)
	if err != nil {
		return nil, err
	}
	hidden := map[byte]bool{}
	for _, g := range given {
		if err := s.option(g.Letter, g.Value, hidden); err != nil {
			return nil, err
		}
	}
	if len(rest) != 2 {
		return nil, &usageError{}
	}
	var ok bool
	s.address = rest[0]
	if s.backlog, ok = load.Number(rest[1], 1); !ok {
		return nil, &usageError{}
	}
	for _, a := range announcements {
		switch {
		case !hidden[a.hide]:
			s.keywords = append(s.keywords, a.keyword)
		case a.hide == 'C', a.hide == 'F':
			command, _, _ := strings.Cut(a.keyword, " ")
			s.disabled = append(s.disabled, command)
		}
	}
	return s, nil
}

func (s *settings) option(letter byte, value string, hidden map[byte]bool) error {
	switch letter {
	case '4', '6':
		s.family = int(letter - '0')
	case '8', 'a', 'C', 'E', 'F', 'N', 'p':
		hidden[letter] = true
	case 'A':
		s.aborts = true
		return seconds(value, &s.abort)
	case 'b', 'B':
		return s.reply(letter, value)
	case 'c':
		s.show = true
	case 'd', 'D':
		if s.dump != "" && s.dumpAll != (letter == 'D') {
			return fmt.Errorf("use only one of -d or -D, but not both")
		}
		s.dump, s.dumpAll = value, letter == 'D'
	case 'e':
		s.noESMTP = true
	case 'P':
		s.pix, s.noESMTP = true, true
	case 'f', 'r':
		hidden['p'] = true
		return s.commands(value, func(b *behaviour) { b.hard, b.soft = b.hard || letter == 'f', b.soft || letter == 'r' })
	case 'q':
		return s.commands(value, func(b *behaviour) { b.drop = true })
	case 'Q':
		return s.commands(value, func(b *behaviour) { b.close421 = true })
	case 's':
		return s.commands(value, func(b *behaviour) { b.log = true })
	case 'h':
		s.hostname = value
	case 'H':
		return seconds(value, &s.readDelay)
	case 'L':
		s.lmtp = true
	case 'm':
		return number("concurrency limit", value, &s.concurrency)
	case 'M':
		return number("message quit count", value, &s.messages)
	case 'n':
		return number("quit count", value, &s.sessions)
	case 'R':
		s.root = value
	case 'S':
		s.start = conf.Unescape(value)
	case 't':
		n := 0
		err := number("timeout", value, &n)
		s.timeout = time.Duration(n) * time.Second
		return err
	case 'T':
		return number("TCP window size", value, &s.window)
	case 'u':
		s.user = value
	case 'v':
		s.verbose++
	case 'w':
		return seconds(value, &s.behaviour["DATA"].delay)
	case 'W':
		return s.delay(value)
	}
	return nil
}

func number(what, text string, to *int) error {
	n, ok := load.Number(text, 1)
	if !ok {
		return fmt.Errorf("bad %s: %s", what, text)
	}
	*to = n
	return nil
}

func seconds(text string, to *time.Duration) error {
	n, ok := load.Number(text, 0)
	if !ok {
		return &usageError{}
	}
	*to = time.Duration(n) * time.Second
	return nil
}

// reply sets what is said to rejected commands.
func (s *settings) reply(letter byte, text string) error {
	first, word, to := byte('4'), "soft", &s.soft
	if letter == 'B' {
		first, word, to = '5', "hard", &s.hard
	}
	if len(text) < 3 || text[0] != first || !digit(text[1]) || !digit(text[2]) || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return &usageError{fmt.Sprintf("bad %s error reply: %s", word, text)}
	}
	*to = text
	return nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// commands applies set to each command of a list.
func (s *settings) commands(list string, set func(*behaviour)) error {
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" ,\t\r\n", r) }) {
		b, ok := s.behaviour[strings.ToUpper(name)]
		if !ok {
			return fmt.Errorf("unknown command: %s", name)
		}
		set(b)
	}
	return nil
}

// delay reads command:delay[:odds].
func (s *settings) delay(text string) error {
	name, rest, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("invalid command delay argument: %s", text)
	}
	b, ok := s.behaviour[strings.ToUpper(name)]
	if !ok {
		return fmt.Errorf("unknown command: %s", name)
	}
	duration, odds, hasOdds := strings.Cut(rest, ":")
	n, ok := load.Number(duration, 1)
	if !ok {
		return fmt.Errorf("non-positive '%s' delay", name)
	}
	b.delay = time.Duration(n) * time.Second
	if !hasOdds {
		return nil
	}
	if b.odds, ok = load.Number(odds, 1); !ok || b.odds > 99 {
		return fmt.Errorf("delay odds for '%s' out of range", name)
	}
	return nil
}
