package sendmail

import (
	"fmt"
	"path/filepath"
	"strings"

	"posthaste/pkg/command/getopt"
	"posthaste/pkg/message/dsn"
)

// spec are the option letters that Postfix's sendmail knows.
const spec = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx"

// Trace flags of a submission (spec ipc.md §2.5).
const (
	traceVerify = 512  // -bv: report, do not deliver
	traceRecord = 1024 // -v: deliver and report
)

// mode is what the command is to do.
type mode int

const (
	enqueue mode = iota
	list
	flushQueue
	flushSite
	flushID
	daemon
	aliases
	standAlone
	nothing // exit 0 at once
)

// byName are the names under which sendmail starts in another mode.
var byName = map[string]mode{"mailq": list, "newaliases": aliases, "smtpd": daemon}

// options are the command line.
type options struct {
	mode       mode
	configDir  string
	sender     *string // -f, as given
	fullName   *string
	encoding   string
	context    string // rewrite_context
	notify     dsn.Notify
	ret        dsn.Ret
	envelopeID string
	verp       string // delimiters; "" is none
	verpStd    bool   // with the default delimiters
	aliasPaths []string
	extract    bool // -t
	keepDots   bool // -i
	trace      int
	verbose    int // -v -v ...
	target     string
	recipients []string
	warnings   []string // logged when the log is open
}

// parse reads a command line. The error's text follows "fatal: ".
func parse(args []string) (o options, err error) {
	name := filepath.Base(args[0])
	o.mode, o.context = byName[name], "local"
	given, rest, err := getopt.Parse(standing(args[1:]), spec)
	if err != nil {
		return o, err
	}
	o.recipients = rest
	verbose := 0
	for _, g := range given {
		if g.Letter == 'v' {
			verbose++
			continue
		}
		set, ok := setters[g.Letter]
		if !ok {
			continue // accepted for the sake of old callers
		}
		if err := set(&o, g.Value); err != nil {
			return o, err
		}
	}
	if o.mode == enqueue && verbose == 1 {
		if o.trace&traceVerify != 0 {
			return o, fmt.Errorf("-v option cannot be used with -bv")
		}
		o.trace |= traceRecord
	} else if verbose > 0 {
		o.verbose = verbose
	}
	return o, o.conflicts()
}

// alone is the value given to an option that has an optional one and stands
// alone.
const alone = "\x00"

// standing gives -q, which takes a value only when that is joined to it, a
// value of its own.
func standing(args []string) []string {
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			return append(out, args[i:]...)
		}
		if arg == "-q" {
			arg += alone
		}
		out = append(out, arg)
		if takesNext(arg) && i+1 < len(args) {
			i++
			out = append(out, args[i])
		}
	}
	return out
}

// takesNext tells whether an argument of options ends in one whose value is
// the next argument.
func takesNext(arg string) bool {
	for i := 1; i < len(arg); i++ {
		at := strings.IndexByte(spec, arg[i])
		if at >= 0 && at+1 < len(spec) && spec[at+1] == ':' {
			return i == len(arg)-1
		}
	}
	return false
}

func (o *options) warn(format string, a ...any) {
	o.warnings = append(o.warnings, fmt.Sprintf(format, a...))
}

// conflicts are combinations that make no sense.
func (o *options) conflicts() error {
	probe := o.trace&traceVerify != 0
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{o.extract && o.mode != enqueue, "-t can be used only in delivery mode"},
		{o.extract && probe, "-t option cannot be used with -bv"},
		{o.notify != 0 && probe, "-N option cannot be used with -bv"},
		{o.ret != 0 && probe, "-R option cannot be used with -bv"},
	} {
		if c.bad {
			return fmt.Errorf("%s", c.text)
		}
	}
	if text, ok := noArguments[o.mode]; ok && len(o.recipients) > 0 {
		return fmt.Errorf("%s mode requires no recipient", text)
	}
	return nil
}

// noArguments are the modes that take no argument, as they are called in the
// complaint.
var noArguments = map[mode]string{
	list: "display queue", flushQueue: "flush queue", daemon: "daemon", aliases: "alias initialization", standAlone: "stand-alone",
}

// setters are the options that mean something.
var setters = map[byte]func(*options, string) error{
	'B': func(o *options, v string) error {
		switch v {
		case "8BITMIME":
			o.encoding = "8bit"
		case "7BIT":
			o.encoding = "7bit"
		default:
			return fmt.Errorf("-B option needs 8BITMIME or 7BIT")
		}
		return nil
	},
	'C': func(o *options, v string) error {
		if filepath.Base(v) == "main.cf" {
			v = filepath.Dir(v)
		}
		o.configDir = v
		return nil
	},
	'F': func(o *options, v string) error { o.fullName = &v; return nil },
	'G': func(o *options, _ string) error { o.context = "remote"; return nil },
	'I': func(o *options, _ string) error { o.mode = aliases; return nil },
	'N': func(o *options, v string) error { o.setNotify(v); return nil },
	'R': func(o *options, v string) error { o.setRet(v); return nil },
	'V': func(o *options, v string) error { return o.setEnvelopeID(v) },
	'X': func(o *options, v string) error { return o.setX(v) },
	'b': func(o *options, v string) error { return o.setB(v) },
	'f': func(o *options, v string) error { o.sender = &v; return nil },
	'i': func(o *options, _ string) error { o.keepDots = true; return nil },
	'n': func(*options, string) error { return fmt.Errorf("-n option not supported") },
	'o': func(o *options, v string) error { return o.setO(v) },
	'r': func(o *options, v string) error { o.sender = &v; return nil },
	'q': func(o *options, v string) error { return o.setQ(v) },
	't': func(o *options, _ string) error { o.extract = true; return nil },
}

func (o *options) setNotify(v string) {
	n, err := dsn.ParseNotify(v)
	if err != nil {
		o.warn("unknown DSN NOTIFY command value \"%s\" in \"%s\"", v, v)
		o.warn("bad -N option value -- ignored")
		return
	}
	o.notify = n
}

func (o *options) setRet(v string) {
	r, ok := dsn.ParseRet(v)
	if !ok {
		o.warn("bad -R option value -- ignored")
		return
	}
	o.ret = r
}

// maxEnvelopeID is the longest ENVID (RFC 3461, 4.4).
const maxEnvelopeID = 100

// setEnvelopeID is -V, which once was the option for VERP: two characters are
// still taken as delimiters.
func (o *options) setEnvelopeID(v string) error {
	switch {
	case len(v) == 2:
		o.warn("option -V%s is deprecated with Postfix 2.3; specify -XV%s instead", v, v)
		return o.setX("V" + v)
	case len(v) > maxEnvelopeID:
		o.warn("too long -V option value -- ignored")
	case strings.IndexFunc(v, func(r rune) bool { return r < 32 || r > 126 }) >= 0:
		o.warn("bad syntax in -V option value -- ignored")
	default:
		o.envelopeID = v
	}
	return nil
}

func (o *options) setX(v string) error {
	switch {
	case v == "V":
		o.verpStd = true
	case strings.HasPrefix(v, "V"):
		o.verp = v[1:]
	case v == "":
		return fmt.Errorf("unsupported: -X")
	default:
		return fmt.Errorf("unsupported: -X%c", v[0])
	}
	return nil
}

// modesOfB are the letters behind -b.
var modesOfB = map[byte]mode{'d': daemon, 'l': daemon, 'h': nothing, 'H': nothing, 'i': aliases, 'm': enqueue, 'p': list, 's': standAlone}

func (o *options) setB(v string) error {
	if v != "" {
		if m, ok := modesOfB[v[0]]; ok {
			if m == daemon && o.mode == flushQueue {
				o.warn("ignoring -q option in daemon mode")
			}
			o.mode = m
			return nil
		}
		if v[0] == 'v' {
			o.mode, o.trace = enqueue, o.trace|traceVerify
			return nil
		}
		return fmt.Errorf("unsupported: -b%c", v[0])
	}
	return fmt.Errorf("unsupported: -b")
}

func (o *options) setO(v string) error {
	switch {
	case v == "i":
		o.keepDots = true
	case v == "A":
		return fmt.Errorf("-oA requires pathname")
	case strings.HasPrefix(v, "A"):
		o.aliasPaths = append(o.aliasPaths, v[1:])
	}
	return nil
}

func (o *options) setQ(v string) error {
	switch {
	case v == alone:
		o.queueRun()
	case v[0] >= '0' && v[0] <= '9':
		if o.mode == daemon {
			o.warn("ignoring -q option in daemon mode")
		} else {
			o.mode = nothing
		}
	case v[0] == 'R':
		return o.setTarget(flushSite, v[1:], "specify: -qRsitename", "-qR can be used only in delivery mode")
	case v[0] == 'I':
		return o.setTarget(flushID, v[1:], "specify: -qIqueueid", "-qI can be used only in delivery mode")
	default:
		return fmt.Errorf("-q%c is not implemented", v[0])
	}
	return nil
}

func (o *options) queueRun() {
	if o.mode == daemon {
		o.warn("ignoring -q option in daemon mode")
	} else {
		o.mode = flushQueue
	}
}

func (o *options) setTarget(m mode, target, empty, conflict string) error {
	if target == "" {
		return fmt.Errorf("%s", empty)
	}
	if o.mode != enqueue && o.mode != m {
		return fmt.Errorf("%s", conflict)
	}
	o.mode, o.target = m, target
	return nil
}
