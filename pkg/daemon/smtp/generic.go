package smtp

import (
	"bytes"
	"fmt"
	"strings"

	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/table"
)

func foldAddress(s string) string { return table.Fold(s, true) }

// generic maps an internal address (delivery.md §2.7). The result is not mapped
// again.
func (r *request) generic(addr string) (string, error) {
	if addr == "" {
		return addr, nil
	}
	m, x := r.d.tables.generic, r.d.extensions
	o := table.AddressOptions{Delimiters: x.Delimiters, DoubleBounce: x.DoubleBounce, OwnerRequest: x.OwnerRequest, IsLocal: r.isMyOrigin}
	o.Strategy = table.AddrDefault &^ table.AddrAtDomain
	value, ext, found, err := m.FindAddress(r.ctx, addr, o)
	if err == nil && !found {
		// What matches @domain has matched the extension with it.
		o.Strategy, ext = table.AddrAtDomain, ""
		value, _, found, err = m.FindAddress(r.ctx, addr, o)
	}
	switch {
	case err != nil:
		return addr, fmt.Errorf("%s map lookup problem for %s", m.Title(), addr)
	case !found:
		return addr, nil
	}
	if !r.d.propagateGeneric {
		ext = ""
	}
	return r.mapped(addr, value, ext), nil
}

// mapped is the address that a lookup result means.
func (r *request) mapped(addr, value, ext string) string {
	if strings.HasPrefix(value, "@") && len(value) > 1 {
		local, _ := address.Split(addr)
		return local + value
	}
	result := ""
	address.Parse(value, r.d.mime.tokens).Addresses(func(words address.List) {
		if result == "" {
			result = words.Internal()
		}
	})
	if result == "" {
		return addr
	}
	if !strings.Contains(result, "@") {
		result += "@" + r.d.myorigin
	}
	if ext != "" {
		result = address.AddExtension(result, ext)
	}
	return result
}

// rewrite applies the generic maps to the addresses of a header.
func (e *editor) rewrite(text []byte, nameLen int) []byte {
	r := e.x.r
	list := address.Parse(string(text[nameLen+1:]), r.d.mime.tokens)
	changed := false
	for i := range list {
		t := &list[i]
		if t.Kind != address.Address {
			continue
		}
		before := address.Unquote(t.Tokens.String())
		after, err := r.generic(before)
		if err != nil {
			r.d.log.Warn("%s: %v", r.j.ID, err)
			e.fail = true
			return text
		}
		if after != before {
			t.Tokens = address.Scan(address.Quote(after), 0)
			changed = true
		}
	}
	if !changed {
		return text
	}
	b := append(bytes.Clone(text[:nameLen+1]), ' ')
	b = list.AppendExternal(b, header.FoldMark)
	return header.AppendFolded(nil, b)
}

// checksFor picks the table for a header; nil for none.
func (e *editor) checksFor(class mime.Class, known *header.Known) *table.Maps {
	t := &e.x.r.d.tables
	switch {
	case known != nil && known.Flags&header.MIME != 0, class == mime.Multipart:
		return t.mimeChecks
	case class == mime.Nested:
		return t.nestedChecks
	}
	return t.headerChecks
}

// check looks a header or body line up and does what the table says; keep is
// false if the text is gone.
func (e *editor) check(context string, text []byte, m *table.Maps) (_ []byte, keep bool) {
	r := e.x.r
	value, found, err := m.Find(r.ctx, string(text))
	if err != nil {
		if !e.fail {
			r.d.log.Warn("%s: smtp %s checks lookup error", r.j.ID, context)
		}
		e.fail = true
		return text, true
	}
	if !found {
		return text, true
	}
	word, arg := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		word, arg = value[:i], strings.TrimLeft(value[i:], " \t")
	}
	action, known := checkActions[strings.ToUpper(word)]
	if !known {
		r.d.log.Warn("unsupported command in %s map: %s", m.Title(), value)
		return text, true
	}
	if action.text {
		if arg == "" {
			r.d.log.Warn("%s action without text in %s map", strings.ToUpper(word), m.Title())
			return text, true
		}
		if context == "header" && !header.IsHeader(arg) {
			r.d.log.Warn("bad %s header text \"%s\" in %s map -- need \"headername: headervalue\"", strings.ToUpper(word), arg, m.Title())
			return text, true
		}
	}
	if action.log != "" {
		tail := ""
		if arg != "" {
			tail = ": " + arg
		}
		r.d.log.Info("%s: %s: %s %.60s%s", r.j.ID, action.log, context, text, tail)
	}
	switch {
	case action.replace:
		return []byte(arg), true
	case action.text:
		e.lines([]byte(arg))
	}
	return text, !action.drop
}

// checkActions are what a check may do: the words of the log, whether the
// action needs a text, takes the place of what was matched, or drops it.
var checkActions = map[string]struct {
	log                 string
	text, replace, drop bool
}{
	"WARN": {log: "warning"}, "INFO": {log: "info"},
	"REPLACE": {log: "replace", text: true, replace: true},
	"PREPEND": {log: "prepend", text: true},
	"STRIP":   {log: "strip", drop: true},
	"IGNORE":  {drop: true},
	"DUNNO":   {}, "OK": {},
}
