package pipe

import (
	"fmt"
	"strconv"
	"strings"

	"posthaste/pkg/conf/macro"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/address"
	"posthaste/pkg/table"
)

// word is one argument of the command line: text and references in turn.
type word struct {
	pieces       []piece
	perRecipient bool // refers to a recipient: stands once for each
	user         bool // refers to $user
}

type piece struct {
	text string // literal text, or
	name string // the name of a macro
}

// unknownMacro is the error for a name that is no macro.
type unknownMacro struct{ name string }

func (e *unknownMacro) Error() string { return `unknown macro name: "` + e.name + `"` }

// once are the macros with one value for the request, each those with one for
// each recipient (delivery.md §5.3).
var (
	once = map[string]func(t *task) string{
		"sender":          (*task).senderMacro,
		"nexthop":         (*task).nexthopMacro,
		"size":            func(t *task) string { return strconv.FormatInt(t.job.DataSize, 10) },
		"client_address":  func(t *task) string { return t.job.ClientAddress },
		"client_hostname": func(t *task) string { return t.job.ClientName },
		"client_port":     func(t *task) string { return t.job.ClientPort },
		"client_protocol": func(t *task) string { return t.job.ClientProtocol },
		"client_helo":     func(t *task) string { return t.job.ClientHelo },
		"sasl_method":     func(t *task) string { return t.job.SASLMethod },
		"sasl_username":   func(t *task) string { return t.job.SASLUsername },
		"sasl_sender":     func(t *task) string { return t.job.SASLSender },
		"queue_id":        func(t *task) string { return t.job.ID },
	}
	each = map[string]func(r *recipient) string{
		"recipient":          func(r *recipient) string { return r.address },
		"original_recipient": func(r *recipient) string { return r.original },
		"user":               func(r *recipient) string { return r.user },
		"extension":          func(r *recipient) string { return r.extension },
		"mailbox":            func(r *recipient) string { return r.mailbox },
		"domain":             func(r *recipient) string { return r.domain },
	}
)

// recipient is what the recipient macros stand for.
type recipient struct {
	address, original        string
	mailbox, user, extension string
	domain                   string
}

// expand makes the command's arguments. The error names what is wrong in
// master.cf.
func (t *task) expand() ([]string, error) {
	var words []word
	for _, arg := range t.argv {
		w, err := parseWord(arg)
		if err != nil {
			return nil, err
		}
		words = append(words, w)
	}
	var rcpts []recipient
	for i := range t.job.Recipients {
		rcpts = append(rcpts, t.recipient(&t.job.Recipients[i]))
	}
	var argv []string
	for _, w := range words {
		if !w.perRecipient {
			argv = append(argv, t.fill(w, nil))
			continue
		}
		for i := range rcpts {
			// An address without a user would make an argument that says
			// something else.
			if w.user && rcpts[i].user == "" {
				continue
			}
			argv = append(argv, t.fill(w, &rcpts[i]))
		}
	}
	if len(argv) == 0 {
		return nil, fmt.Errorf("no command is left of argv=%s", t.argv[0])
	}
	return argv, nil
}

func (t *task) fill(w word, r *recipient) string {
	var b strings.Builder
	for _, p := range w.pieces {
		switch value, perRecipient := each[p.name]; {
		case p.name == "":
			b.WriteString(p.text)
		case perRecipient:
			b.WriteString(value(r))
		default:
			b.WriteString(once[p.name](t))
		}
	}
	return b.String()
}

// parseWord reads $name, ${name}, $(name) and $$.
func parseWord(s string) (word, error) {
	var w word
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			i = len(rest)
		}
		if i > 0 {
			w.pieces = append(w.pieces, piece{text: rest[:i]})
		}
		if rest = rest[i:]; rest == "" {
			break
		}
		name, after, err := reference(rest[1:], s)
		if err != nil {
			return w, err
		}
		rest = after
		if name == "$" {
			w.pieces = append(w.pieces, piece{text: "$"})
			continue
		}
		_, perRecipient := each[name]
		if once[name] == nil && !perRecipient {
			return w, &unknownMacro{name}
		}
		w.perRecipient = w.perRecipient || perRecipient
		w.user = w.user || name == "user"
		w.pieces = append(w.pieces, piece{name: name})
	}
	return w, nil
}

// reference reads what follows a dollar sign in the argument whole.
func reference(s, whole string) (name, rest string, err error) {
	switch {
	case strings.HasPrefix(s, "$"):
		return "$", s[1:], nil
	case s != "" && (s[0] == '{' || s[0] == '('):
		end := macro.Closing(s)
		if end < 0 {
			return "", "", fmt.Errorf("truncated macro reference: \"%s\"", whole)
		}
		name, rest = s[1:end], s[end+1:]
	default:
		n := 0
		for n < len(s) && isName(s[n]) {
			n++
		}
		name, rest = s[:n], s[n:]
	}
	if name == "" {
		return "", "", fmt.Errorf("empty macro name: \"%s\"", whole)
	}
	return name, rest, nil
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (t *task) fold(s string) string { return table.Fold(s, t.utf8) }

func (t *task) senderMacro() string {
	s := t.sender()
	if t.flags.has('q') && s != "" {
		return address.Quote(s)
	}
	return s
}

func (t *task) nexthopMacro() string {
	if t.flags.has('h') {
		return t.fold(t.job.NextHop)
	}
	return t.job.NextHop
}

func (t *task) recipient(rcpt *deliver.Recipient) recipient {
	local, domain, found := cutLast(rcpt.Address)
	if !found {
		t.job.Log.Warn("no @ in recipient address: %s", rcpt.Address)
	}
	r := recipient{address: t.rewrite(rcpt.Address), original: t.rewrite(rcpt.Original)}
	if t.flags.has('u') {
		local = t.fold(local)
	}
	if t.flags.has('h') {
		domain = t.fold(domain)
	}
	r.mailbox, r.user, r.domain = local, local, domain
	if user, ext, ok := t.ext.Split(local); ok {
		r.user, r.extension = user, ext[1:]
	}
	return r
}

// rewrite does to an address what flags h, q and u say.
func (t *task) rewrite(addr string) string {
	local, domain, found := cutLast(addr)
	if addr == "" {
		return ""
	}
	if t.flags.has('u') {
		local = t.fold(local)
	}
	if t.flags.has('q') {
		local = address.QuoteLocal(local)
	}
	if !found {
		return local
	}
	if t.flags.has('h') {
		domain = t.fold(domain)
	}
	return local + "@" + domain
}

func cutLast(addr string) (local, domain string, found bool) {
	i := strings.LastIndexByte(addr, '@')
	if i < 0 {
		return addr, "", false
	}
	return addr[:i], addr[i+1:], true
}

func trimRight(s string) string { return strings.TrimRight(s, " \t\r\n\v\f") }
