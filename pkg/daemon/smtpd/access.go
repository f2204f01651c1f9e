package smtpd

import (
	"context"
	"strings"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
	"posthaste/pkg/wire/smtp"
)

// lookup is one search in an access table, for one name in one class of
// replies.
type lookup struct {
	evaluation
	table table.Table
	name  string // N of the reply
	class string // CLASS of the reply
	datum string // what was to be looked up, for warnings
}

// try looks one key up. derived keys are not for tables of patterns.
func (l lookup) try(key string, derived bool) (v verdict, found bool) {
	if derived && l.table.Flags()&table.Pattern != 0 || key == "" {
		return dunno, false
	}
	value, found, err := l.table.Lookup(l.ctx, key)
	if err != nil {
		l.log.Warn("%s lookup error for \"%s\"", l.table.Name(), key)
		return l.action(l.datum, "451 4.3.5 Server configuration error"), true
	}
	if !found {
		return dunno, false
	}
	if value == "" {
		l.log.Warn("%s lookup of %s returns an empty string result", l.table.Name(), key)
		l.log.Warn("%s should return NO RESULT in case of NOT FOUND", l.table.Name())
		return l.action(l.datum, "451 4.3.5 Server configuration error"), true
	}
	return l.action(l.datum, value), true
}

// domain tries a name and its parent domains.
func (l lookup) domain(name string) (verdict, bool) {
	l.datum = name
	if v, found := l.try(name, false); found {
		return v, true
	}
	return l.parents(name)
}

func (l lookup) parents(name string) (verdict, bool) {
	if _, numeric := dns.ParseAddr(name); numeric {
		return dunno, false
	}
	for {
		i := strings.IndexByte(strings.TrimPrefix(name, "."), '.')
		if i < 0 {
			return dunno, false
		}
		if strings.HasPrefix(name, ".") {
			i++
		}
		name = name[i:]
		if l.srv.parentKeys {
			name = name[1:]
		}
		if v, found := l.try(name, true); found {
			return v, true
		}
	}
}

// address tries an address and the networks it is in, by byte or group.
func (l lookup) address(addr string) (verdict, bool) {
	l.datum = addr
	if v, found := l.try(addr, false); found {
		return v, true
	}
	separator := "."
	if strings.Contains(addr, ":") {
		separator = ":"
	}
	for {
		i := strings.LastIndex(addr, separator)
		if i < 0 {
			return dunno, false
		}
		addr = addr[:i]
		if v, found := l.try(addr, true); found {
			return v, true
		}
	}
}

// client tries a client's name, then its address.
func (l lookup) client(name, addr string) verdict {
	if v, found := l.domain(name); found {
		return v
	}
	v, _ := l.address(addr)
	return v
}

func (e evaluation) lookup(name, class string) lookup {
	return lookup{evaluation: e, table: e.element.table, name: name, class: class, datum: name}
}

func checkClientAccess(e evaluation) verdict {
	return e.lookup(e.peer.namaddr, "Client host").client(e.peer.name, e.peer.addr)
}

func checkReverseAccess(e evaluation) verdict {
	v := e.lookup(e.peer.reverse, "Unverified Client host").client(e.peer.reverse, e.peer.addr)
	return e.noPermit(v, e.peer.reverse)
}

// noPermit refuses an OK for a name that the client itself controls.
func (e evaluation) noPermit(v verdict, name string) verdict {
	if v != accept || e.discarding() {
		return v
	}
	e.log.Warn("restriction %s returns OK for %s", e.element.name, name)
	e.log.Warn("this is not allowed for security reasons")
	e.log.Warn("use DUNNO instead of OK if you want to make an exception")
	return e.serverError()
}

func checkHeloAccess(e evaluation) verdict {
	if !e.heloGiven {
		return dunno
	}
	v, _ := e.lookup(e.helo, "Helo command").domain(e.helo)
	return v
}

func checkEtrnAccess(e evaluation) verdict {
	if e.checks.etrn == "" {
		return dunno
	}
	v, _ := e.lookup(e.checks.etrn, "Etrn command").domain(e.checks.etrn)
	return v
}

func checkSaslAccess(e evaluation) verdict {
	if e.sasl.user == "" {
		return dunno
	}
	v, _ := e.lookup(smtp.Printable(e.sasl.user, '_'), "SASL login name").try(e.sasl.user, false)
	return v
}

func checkSenderAccess(e evaluation) verdict {
	sender, ok := e.sender()
	if !ok {
		return dunno
	}
	if sender == "" {
		v, _ := e.lookup(sender, "Sender address").try(e.srv.set.nullKey, false)
		return v
	}
	v, _ := e.mailAccess(sender, "Sender address")
	return v
}

func checkRecipientAccess(e evaluation) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" {
		return dunno
	}
	v, routed := e.mailAccess(rcpt, "Recipient address")
	if v == accept && routed && !e.srv.set.allowRouting && !e.discarding() {
		return dunno // an OK must not open a relay for user@elsewhere@here
	}
	return v
}

// mailAccess tries the keys of an address (spec §4.5). routed says that the
// local part names another host.
func (e evaluation) mailAccess(addr, class string) (v verdict, routed bool) {
	r, v := e.resolve(addr)
	if v != dunno {
		return v, false
	}
	routed = r.Flags&rewrite.Routed != 0
	l := e.lookup(addr, class)
	l.datum = r.Recipient
	full := table.Fold(r.Recipient, e.srv.set.utf8)
	local, domain, hasDomain := address.Cut(full)
	ext := address.Extensions{Delimiters: e.srv.set.recipientDelim, DoubleBounce: e.srv.set.doubleBounce, OwnerRequest: e.srv.ownerRequest}
	user, _, split := ext.Split(local)
	at := ""
	if hasDomain {
		at = "@" + domain
	}
	for _, step := range []struct {
		on      bool
		key     string
		domain  bool
		derived bool
	}{
		{on: true, key: full},
		{on: split, key: user + at, derived: true},
		{on: domain != "", key: domain, domain: true, derived: true},
		{on: true, key: local + "@", derived: true},
		{on: split, key: user + "@", derived: true},
	} {
		if !step.on {
			continue
		}
		if step.domain {
			v, found := l.try(step.key, true)
			if !found {
				v, found = l.parents(step.key)
			}
			if found {
				return v, routed
			}
			continue
		}
		quoted := address.Quote(step.key)
		if v, found := l.try(quoted, step.derived); found {
			return v, routed
		}
		if quoted != step.key {
			if v, found := l.try(step.key, step.derived); found {
				return v, routed
			}
		}
	}
	return dunno, routed
}

// action does what the right-hand side of an access table says (spec §4.6).
func (l lookup) action(key, value string) verdict {
	word, text, _ := cutWord(value)
	if word == "" {
		l.log.Warn("access table %s entry %s has empty value", l.table.Name(), value)
		return accept
	}
	if strings.Trim(value, "0123456789") == "" {
		return accept
	}
	if len(word) == 3 && (word[0] == '4' || word[0] == '5') && strings.Trim(word, "0123456789") == "" {
		code := int(word[0]-'0')*100 + int(word[1]-'0')*10 + int(word[2]-'0')
		return l.rejectText(code, word[:1]+".7.1", text, "Access denied")
	}
	if run, ok := accessActions()[strings.ToUpper(word)]; ok {
		return run(l, key, text)
	}
	return l.restrictions(value)
}

// cutWord splits at the first white space.
func cutWord(s string) (word, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t\r\n")
	i := strings.IndexAny(s, " \t\r\n")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimLeft(s[i:], " \t\r\n"), true
}

func (l lookup) logPermitted(action string) {
	l.logPermit(action, l.class, l.name, l.table.Name())
}

// rejectText rejects with a text of the administrator's, which may begin with
// an enhanced status code.
func (l lookup) rejectText(code int, dsnDefault, text, empty string) verdict {
	dsn, text := l.splitDSN(dsnDefault, text, empty)
	return l.rejectAs(classPolicy, code, dsn, l.name, l.class, text)
}

func (l lookup) splitDSN(dsnDefault, text, empty string) (string, string) {
	dsn, rest, ok := smtp.CutDSN(text)
	if !ok {
		dsn, rest = dsnDefault, text
	}
	if rest == "" {
		rest = empty
	}
	return l.fixDSN(dsn, l.class), rest
}

// accessActions are the words of access tables.
func accessActions() map[string]func(l lookup, key, text string) verdict {
	return map[string]func(l lookup, key, text string) verdict{
		"OK":    func(l lookup, _, _ string) verdict { l.logPermitted("OK"); return accept },
		"RELAY": func(l lookup, _, _ string) verdict { l.logPermitted("RELAY"); return accept },
		"DUNNO": func(lookup, string, string) verdict { return dunno },
		"REJECT": func(l lookup, _, text string) verdict {
			return l.rejectText(l.srv.set.codes.accessReject, "5.7.1", text, "Access denied")
		},
		"DEFER": func(l lookup, _, text string) verdict {
			return l.rejectText(l.srv.set.codes.accessDefer, "4.7.1", text, "Access denied")
		},
		"DEFER_IF_PERMIT": func(l lookup, _, text string) verdict {
			dsn, text := l.splitDSN("4.7.1", text, "Service unavailable")
			return l.deferIfPermit(false, classPolicy, l.srv.set.codes.accessDefer, dsn, "<%s>: %s rejected: %s", l.name, l.class, text)
		},
		"DEFER_IF_REJECT": func(l lookup, _, text string) verdict {
			dsn, text := l.splitDSN("4.7.1", text, "Service unavailable")
			return l.deferIfReject(classPolicy, l.srv.set.codes.accessDefer, dsn, "<%s>: %s rejected: %s", l.name, l.class, text)
		},
		"HOLD": func(l lookup, _, text string) verdict {
			if tx := l.applicable("HOLD", true); tx != nil && !tx.hold {
				tx.hold = true
				l.logNamed("hold", text, "triggers HOLD action")
			}
			return dunno
		},
		"DISCARD": func(l lookup, _, text string) verdict {
			tx := l.applicable("DISCARD", true)
			if tx == nil {
				return dunno
			}
			tx.discard = true
			l.logNamed("discard", text, "triggers DISCARD action")
			return accept
		},
		"FILTER": func(l lookup, key, text string) verdict {
			switch {
			case text == "":
				l.log.Warn("access table %s entry \"%s\" has FILTER entry without value", l.table.Name(), key)
			case !strings.Contains(text, ":"):
				l.log.Warn("access table %s entry \"%s\" requires transport:destination", l.table.Name(), key)
			default:
				if tx := l.applicable("FILTER", true); tx != nil {
					tx.filter = text
					l.logNamed("filter", "", "triggers FILTER "+text)
				}
			}
			return dunno
		},
		"REDIRECT": func(l lookup, key, text string) verdict {
			if !strings.Contains(text, "@") {
				l.log.Warn("access table %s entry \"%s\" requires user@domain target", l.table.Name(), key)
			} else if tx := l.applicable("REDIRECT", true); tx != nil {
				tx.redirect = text
				l.logNamed("redirect", "", "triggers REDIRECT "+text)
			}
			return dunno
		},
		"BCC": func(l lookup, key, text string) verdict {
			if !strings.Contains(text, "@") {
				l.log.Warn("access table %s entry \"%s\" requires user@domain target", l.table.Name(), key)
			} else if tx := l.applicable("BCC", true); tx != nil && len(tx.bcc) < maxExtras {
				tx.bcc = append(tx.bcc, text)
				l.logNamed("bcc", "", "triggers BCC "+text)
			}
			return dunno
		},
		"PREPEND": func(l lookup, key, text string) verdict {
			switch {
			case !isHeaderText(text):
				l.log.Warn("access table %s entry \"%s\" requires header: text", l.table.Name(), key)
			case l.list == eodList:
				l.log.Warn("access table %s: action PREPEND must be used before smtpd_end_of_data_restrictions", l.table.Name())
			default:
				if tx := l.applicable("PREPEND", false); tx != nil && len(tx.prepend) < maxExtras {
					tx.prepend = append(tx.prepend, text)
				}
			}
			return dunno
		},
		"INFO": func(l lookup, _, text string) verdict { l.logAction("info", text); return dunno },
		"WARN": func(l lookup, _, text string) verdict { l.logAction("warn", text); return dunno },
		"HANGUP": func(l lookup, _, text string) verdict {
			l.logAction("hangup", text)
			l.hangup()
			l.conn.NetConn().Close()
			l.checks.reply = "421 4.7.0 hung up" // reaches nobody, but the command has failed
			return reject
		},
	}
}

// maxExtras bounds headers and recipients that tables add to one message;
// they are added once for each recipient that triggers them.
const maxExtras = 10000

// applicable returns the message that an action is for, or logs why there is
// none. exclusive actions cannot be used with a before-queue filter.
func (l lookup) applicable(action string, exclusive bool) *transaction {
	name := l.table.Name()
	switch {
	case exclusive && l.srv.set.proxyFilter != "":
		l.log.Warn("access table %s: with smtpd_proxy_filter specified, action %s is unavailable", name, action)
		return nil
	case exclusive && (l.list == etrnList || l.where == "ETRN"):
		l.log.Warn("access table %s: action %s is unavailable in smtpd_etrn_restrictions", name, action)
		return nil
	case l.tx == nil: // at VRFY and ETRN, too
		l.log.Warn("access table %s: with smtpd_delay_reject=no, action %s is always skipped in Client host or Helo command restrictions", name, action)
		return nil
	}
	return l.tx
}

// logNamed logs an action on a message: "<N>: CLASS TEXT".
func (l lookup) logNamed(action, text, empty string) {
	if text == "" {
		text = empty
	}
	l.logAction(action, "<"+l.name+">: "+l.class+" "+text)
}

func isHeaderText(s string) bool {
	i := strings.IndexByte(s, ':')
	return i > 0 && !strings.ContainsAny(s[:i], " \t")
}

// restrictions evaluates a right-hand side that is a list of restrictions.
func (l lookup) restrictions(value string) verdict {
	if strings.Contains(value, ":") {
		l.log.Warn("access table %s has entry with lookup table: %s", l.table.Name(), value)
		l.log.Warn("do not specify lookup tables inside SMTPD access maps")
		l.log.Warn("define a restriction class and specify its name instead.")
		return l.serverError()
	}
	e := l.evaluation
	el := *e.element
	el.name, el.arg = value, l.table.Name()
	e.element = &el
	if e.checks.depth >= maxTableDepth {
		return e.tooDeep()
	}
	return e.nested(l.srv.runtime.compile(value))
}

// fixDSN makes an enhanced status code about an address fit the class of the
// reply (spec §4.3): a text written for senders may be used for recipients.
func (e evaluation) fixDSN(dsn, class string) string {
	parts := strings.Split(dsn, ".")
	if len(parts) != 3 || parts[1] != "1" {
		return dsn
	}
	var fixed string
	switch class {
	case "Sender address":
		fixed = map[string]string{"1": "7", "2": "8", "3": "7", "4": "7", "5": "0", "6": "7", "7": "7", "8": "8"}[parts[2]]
	case "Recipient address":
		fixed = map[string]string{"7": "3", "8": "2", "1": "1", "2": "2", "3": "3", "4": "4", "5": "5", "6": "6"}[parts[2]]
	default:
		fixed = "0"
		parts[1] = "0"
	}
	if fixed == "" {
		fixed = "0"
	}
	parts[2] = fixed
	out := strings.Join(parts, ".")
	if out != dsn {
		e.log.Info("mapping DSN status %s into %s status %s", dsn, class, out)
	}
	return out
}

// matcher is a pattern list that may be absent.
type matcher struct{ list *table.MatchList }

func (m matcher) match(ctx context.Context, keys ...string) (bool, error) {
	if m.list == nil || m.list.Empty() {
		return false, nil
	}
	return m.list.Match(ctx, keys...)
}
