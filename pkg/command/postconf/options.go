package postconf

import (
	"errors"
	"slices"
	"strings"

	"posthaste/pkg/command/getopt"
)

const usage = " [-a (server SASL types)] [-A (client SASL types)] [-b (bounce templates)] [-c config_dir] " +
	"[-c param_class] [-d (parameter defaults)] [-e (edit configuration)] [-f (fold lines)] [-F (master.cf fields)] " +
	"[-h (no names)] [-H (no values)] [-j (streaming JSON) ] [-l (lock types)] [-m (map types)] [-M (master.cf)] [-n (non-default parameters)] " +
	"[-o name=value (override parameter value)] [-p (main.cf, default)] [-P (master.cf parameters)] [-q (quiet)] [-t (bounce templates)] " +
	"[-T compile-version|run-version|public-key-algorithms] [-v (verbose)] [-x (expand parameter values)] [-X (exclude)] " +
	"[-# (comment-out)] [name...]"

// letters are the options that take part in conflicts, in the order in which
// messages name them.
const letters = "aAbdefFhHjlmMnopPtTxX#"

// companions holds the major modes, which exclude each other, and the options
// that go with each.
var companions = map[byte]string{
	'a': "", 'A': "", 'b': "", 'l': "", 'm': "", 't': "", 'T': "",
	'p': "eX#fhxdnoHj", 'M': "eX#foxj", 'F': "efhoxHj", 'P': "eXfhoxHj",
}

// exclusive are sets of options of which only one may be given.
var exclusive = []string{"aAblmtpMFPT", "den#X", "fe#X", "xe#X", "ode#X", "he#XH"}

// notWithJSON are the options that change files or the layout of the output.
const notWithJSON = "efhHX#"

// options is a parsed command line.
type options struct {
	set       map[byte]bool
	merged    bool     // -PP
	quiet     bool     // -q
	dir       string   // -c
	overrides []string // -o
	classes   string   // -C
	tls       string   // -T
	args      []string
}

func (o *options) has(letter byte) bool { return o.set[letter] }

// mode returns the major mode.
func (o *options) mode() byte {
	for letter := range companions {
		if o.set[letter] {
			return letter
		}
	}
	return 'p'
}

// parseOptions reads the command line. A *getopt.Error is followed by the
// usage message.
func parseOptions(args []string) (*options, error) {
	o := &options{set: map[byte]bool{}, classes: "all"}
	list, rest, err := getopt.Parse(args, "aAbc:C:defFhHjlmMno:pPqtT:vxX#")
	for _, opt := range list {
		switch opt.Letter {
		case 'c':
			o.dir = opt.Value
			continue
		case 'C':
			o.classes = opt.Value
			continue
		case 'q':
			o.quiet = true
			continue
		case 'v':
			continue
		case 'o':
			o.overrides = append(o.overrides, opt.Value)
		case 'T':
			if o.set['T'] {
				return nil, errors.New("At most one -T <mode> option may be specified")
			}
			o.tls = opt.Value
		case 'b', 't':
			if o.set['b'] || o.set['t'] {
				return nil, errors.New("specify one of -b and -t")
			}
		}
		o.merged = o.merged || opt.Letter == 'P' && o.set['P']
		o.set[opt.Letter] = true
	}
	if err != nil {
		return nil, err
	}
	o.args = rest
	if !slices.ContainsFunc([]byte(exclusive[0]), o.has) {
		o.set['p'] = true
	}
	if strings.IndexByte("pMFP", o.mode()) >= 0 && len(rest) > 0 && strings.Contains(rest[0], "=") {
		o.set['e'] = true
	}
	return o, o.conflicts()
}

func (o *options) conflicts() error {
	for _, set := range exclusive {
		if given := o.given(func(l byte) bool { return strings.IndexByte(set, l) >= 0 }); strings.Contains(given, " ") {
			return errors.New("specify one of " + given)
		}
	}
	if bad := o.given(func(l byte) bool { return strings.IndexByte(notWithJSON, l) >= 0 }); o.has('j') && bad != "" {
		return errors.New("with option -j, do not specify " + bad)
	}
	mode := o.mode()
	allowed := companions[mode]
	if bad := o.given(func(l byte) bool { return l != mode && strings.IndexByte(allowed, l) < 0 }); bad != "" {
		return errors.New("with option -" + string(mode) + ", do not specify " + bad)
	}
	return nil
}

// given returns the options that were given and satisfy ok, as "-a -b".
func (o *options) given(ok func(letter byte) bool) string {
	var list []string
	for i := range len(letters) {
		if l := letters[i]; o.set[l] && ok(l) {
			list = append(list, "-"+string(l))
		}
	}
	return strings.Join(list, " ")
}
