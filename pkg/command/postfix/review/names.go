package review

import (
	"cmp"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// Unused is a setting that nothing reads: its name is no parameter, no value
// refers to it, and no table's name makes it a database client's. Or it is the
// other way round: a name that is referred to, and has no value.
type Unused struct {
	File      string // main.cf or master.cf, with its directory
	Name      string
	Undefined bool // referred to, not set
}

// What postconf says of such a setting.
var (
	unusedWarning    = lazily(`(?m)^[^:]*: warning: (.*/(?:main|master)\.cf): unused parameter: ([^=]*)=`)
	undefinedWarning = lazily(`(?m)^[^:]*: warning: (.*/(?:main|master)\.cf): undefined parameter: (\w+)$`)
)

// ParseUnused finds the unused settings in what postconf wrote to standard
// error.
func ParseUnused(stderr string) []Unused {
	var list []Unused
	for _, m := range unusedWarning().FindAllStringSubmatch(stderr, -1) {
		list = append(list, Unused{File: m[1], Name: m[2]})
	}
	for _, m := range undefinedWarning().FindAllStringSubmatch(stderr, -1) {
		list = append(list, Unused{File: m[1], Name: m[2], Undefined: true})
	}
	return list
}

// unknown tells of the settings that nothing reads. Postconf does not say in
// which services of master.cf they are: all that set the name are meant.
func (r *reviewer) unknown(list []Unused) {
	for _, u := range list {
		if u.Undefined {
			r.undefined(u)
			continue
		}
		switch u.File {
		case r.mainFile:
			r.addUnknown(place{r, nil}, u.Name)
		case r.masterFile:
			for _, s := range r.services {
				if slices.Contains(s.names, u.Name) {
					r.addUnknown(place{r, s}, u.Name)
				}
			}
		}
	}
}

func (r *reviewer) addUnknown(p place, name string) {
	if near := r.nearest(name); near != "" {
		p.add(KindUnknown, name, "unknown parameter %s; is %s meant?", name, near)
	} else {
		p.add(KindUnknown, name, "unknown parameter %s", name)
	}
}

// nearest returns the known name that is most like the given one, or "".
func (r *reviewer) nearest(name string) string {
	best, least := "", max(2, len(name)/5)+1
	try := func(known string) {
		if d := distance(strings.ToLower(name), known, least); d < least {
			best, least = known, d
		}
	}
	for _, p := range conf.Parameters() {
		try(p.Name)
	}
	for _, s := range r.services {
		for _, p := range conf.ServiceParameters(s.program) {
			try(s.name + p.Suffix)
		}
	}
	return best
}

// distance returns how many letters must be added, dropped, changed or
// exchanged with their neighbour to make b of a; it gives up at most.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// levels are the values of parameters that take one word of a few, which the
// programs look at only when they need it.
var levels = map[string]string{
	"smtpd_tls_security_level": "none may encrypt", "tlsproxy_tls_security_level": "none may encrypt", "postscreen_tls_security_level": "none may encrypt",
	"smtp_tls_security_level": "none may encrypt dane dane-only fingerprint verify secure", "lmtp_tls_security_level": "none may encrypt dane dane-only fingerprint verify secure",
	"postscreen_greet_action": "ignore enforce drop", "postscreen_dnsbl_action": "ignore enforce drop", "postscreen_denylist_action": "ignore enforce drop",
	"smtpd_sasl_type": "cyrus dovecot", "smtp_sasl_type": "cyrus", "lmtp_sasl_type": "cyrus",
}

// wordsOf are the words of parameters that are lists of them.
var wordsOf = map[string]string{
	"notify_classes":      "2bounce bounce data delay policy protocol resource software",
	"smtpd_tls_protocols": protocols, "smtpd_tls_mandatory_protocols": protocols,
	"smtp_tls_protocols": protocols, "smtp_tls_mandatory_protocols": protocols,
	"lmtp_tls_protocols": protocols, "lmtp_tls_mandatory_protocols": protocols,
}

const protocols = "sslv2 sslv3 tlsv1 tlsv1.0 tlsv1.1 tlsv1.2 tlsv1.3"

// words checks lists of words.
func (r *reviewer) words() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			known, ok := wordsOf[name]
			if !ok {
				continue
			}
			for _, word := range strings.FieldsFunc(p.value(name), func(c rune) bool { return strings.ContainsRune(", \t:", c) }) {
				text := strings.ToLower(strings.TrimLeft(word, "!<>="))
				if text != "" && !strings.HasPrefix(text, "0x") && !slices.Contains(strings.Fields(known), text) {
					p.add(KindValue, name, "bad value: %s: %s; specify some of: %s", name, word, known)
				}
			}
		}
	}
}

// values checks each setting against the type and limits of its parameter.
func (r *reviewer) values() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			if err := p.config().Valid(name); err != nil {
				p.add(KindValue, name, "%s", err)
				continue
			}
			words, ok := levels[name]
			if !ok {
				continue
			}
			if value := p.value(name); value != "" && !slices.Contains(strings.Fields(words), strings.ToLower(value)) {
				p.add(KindValue, name, "bad value: %s = %s; specify one of: %s", name, value, words)
			}
		}
	}
}

// tlsPrograms are those that read what "tls-library" stands for.
var tlsPrograms = []string{"smtp", "lmtp", "smtpd", "tlsproxy", "tlsmgr", "posttls-finger"}

// aliases are programs that are others under a second name.
var aliases = map[string]string{"nqmgr": "qmgr"}

// reads tells whether a program reads a built-in parameter.
func reads(program string, p conf.Parameter) bool {
	for _, by := range strings.Fields(p.ReadBy) {
		if by == "all" || by == "daemons" || by == program || by == "tls-library" && slices.Contains(tlsPrograms, program) {
			return true
		}
	}
	return false
}

// knownPrograms are the daemons whose parameters the table knows.
func knownPrograms() map[string]bool {
	known := map[string]bool{}
	for _, p := range conf.Parameters() {
		for _, by := range strings.Fields(p.ReadBy) {
			known[by] = true
		}
	}
	for _, name := range []string{"error", "discard", "showq"} {
		known[name] = true
	}
	return known
}

// notRead finds -o options of parameters that the service's program does not
// look at, neither itself nor through another value.
func (r *reviewer) notRead() {
	known := knownPrograms()
	for _, s := range r.services {
		program := cmp.Or(aliases[s.program], s.program)
		if !known[program] {
			continue
		}
		used := s.references(program)
		for _, name := range s.names {
			b, builtin := conf.LookupParameter(name)
			switch {
			case builtin && (b.ReadBy == "" || reads(program, b)), used[name]:
			case builtin:
				place{r, s}.add(KindNotRead, name, "-o %s has no effect: %s does not read it (read by: %s)", name, s.program, b.ReadBy)
			case name == s.name+"_time_limit":
			case r.isCreated(name):
				place{r, s}.add(KindNotRead, name, "-o %s has no effect: the queue manager reads it from main.cf, not %s", name, s.program)
			}
		}
	}
}

// isCreated tells whether a service creates the parameter.
func (r *reviewer) isCreated(name string) bool {
	for _, s := range r.services {
		for _, p := range conf.ServiceParameters(s.program) {
			if name == s.name+p.Suffix {
				return true
			}
		}
	}
	return false
}

// references returns the names that the values of parameters which the program
// reads refer to, directly or not.
func (s *service) references(program string) map[string]bool {
	used := map[string]bool{}
	var visit func(name string)
	follow := func(name string) {
		text, _ := s.config.Text(name)
		_ = macro.Names(text, visit) // what is before a syntax error counts
	}
	visit = func(name string) {
		if !used[name] {
			used[name] = true
			follow(name)
		}
	}
	for _, b := range conf.Parameters() {
		if reads(program, b) {
			follow(b.Name)
		}
	}
	return used
}
