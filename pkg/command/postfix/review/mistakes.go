package review

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// wordLists are parameters that are lists of words, in which a comment has no
// place.
var wordLists = lazily(tableParameters + `|` + listParameters + `|^relayhost$|^inet_(interfaces|protocols)$|_milters$|_restriction_classes$`)

// comments finds "#" in the middle of a list: what follows is not a comment but
// more members of the list.
func (r *reviewer) comments() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			if !wordLists().MatchString(name) {
				continue
			}
			for _, word := range conf.FieldsBraced(p.value(name)) {
				if strings.HasPrefix(word, "#") {
					p.add(KindValue, name, "%s: a comment after other text is not possible: %s", name, word)
					break
				}
			}
		}
	}
}

// files finds files of lists that are not there.
func (r *reviewer) files() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			if !lists().MatchString(name) || restrictionLists().MatchString(name) || strings.HasSuffix(name, "_filter") || strings.HasSuffix(name, "_database") {
				continue
			}
			for _, word := range conf.FieldsBraced(p.value(name)) {
				file := strings.TrimPrefix(word, "!")
				if !strings.HasPrefix(file, "/") {
					continue
				}
				if _, err := os.Stat(file); err != nil {
					p.add(KindTable, name, "%s: file %s cannot be read: %s", name, file, conf.Reason(err))
				}
			}
		}
	}
}

// networks checks the blocks of mynetworks.
func (r *reviewer) networks() {
	for _, p := range r.places() {
		if !slices.Contains(p.names(), "mynetworks") {
			continue
		}
		for _, word := range conf.FieldsBraced(p.value("mynetworks")) {
			text := strings.TrimPrefix(word, "!")
			if tableName().MatchString(text) && !strings.HasPrefix(text, "[") || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "#") {
				continue
			}
			text = strings.NewReplacer("[", "", "]", "").Replace(text)
			if _, err := netip.ParseAddr(text); err == nil || strings.Trim(text, "0123456789./") != "" && !strings.Contains(text, ":") {
				continue // a name, perhaps of a host
			}
			block, err := netip.ParsePrefix(text)
			switch {
			case err != nil:
				p.add(KindValue, "mynetworks", "mynetworks: %s is no address and no network block", word)
			case block.Masked() != block:
				p.add(KindValue, "mynetworks", "mynetworks: %s has an address behind its %d bits; %s is the network", word, block.Bits(), block.Masked())
			}
		}
	}
}

// transports are the parameters whose value begins with the name of a service.
var transports = lazily(`^(default|relay|local|virtual|mailbox|fallback|error)_transport$|^address_verify_(default|relay|local|virtual)_transport$|^content_filter$`)

// destinations finds names of services that master.cf does not have.
func (r *reviewer) destinations() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			if !transports().MatchString(name) {
				continue
			}
			transport, _, _ := strings.Cut(strings.TrimSpace(p.value(name)), ":")
			if transport != "" && !slices.ContainsFunc(r.services, func(s *service) bool { return s.name == transport && s.typ != "inet" }) {
				p.add(KindService, name, "%s: there is no service %s in %s", name, transport, r.masterFile)
			}
		}
	}
}

// together finds settings that stop a program for want of another.
func (r *reviewer) together() {
	needs := []struct{ name, value, also string }{
		{"smtp_sasl_auth_enable", "yes", "smtp_sasl_password_maps"},
		{"lmtp_sasl_auth_enable", "yes", "lmtp_sasl_password_maps"},
	}
	for _, p := range r.places() {
		for _, n := range needs {
			if slices.Contains(p.names(), n.name) && strings.EqualFold(p.value(n.name), n.value) && p.value(n.also) == "" {
				p.add(KindValue, n.name, "%s = %s needs %s", n.name, n.value, n.also)
			}
		}
	}
	p := place{r, nil}
	if size, limit := p.number("message_size_limit"), p.number("mailbox_size_limit"); limit > 0 && (size > limit || size == 0) {
		name := "mailbox_size_limit"
		if _, ok := r.lines[name]; !ok {
			name = "message_size_limit"
		}
		p.add(KindValue, name, "mailbox_size_limit is smaller than message_size_limit: no mail is delivered locally")
	}
	if words := conf.Fields(p.value("relayhost")); len(words) > 1 {
		p.add(KindValue, "relayhost", "relayhost = %s: one destination is possible, a port stands behind a colon", p.value("relayhost"))
	}
}

// number is the value of a parameter, or -1.
func (p place) number(name string) int64 {
	n, err := strconv.ParseInt(p.value(name), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// milters finds servers without their kind.
func (r *reviewer) milters() {
	for _, p := range r.places() {
		for _, name := range []string{"smtpd_milters", "non_smtpd_milters"} {
			if !slices.Contains(p.names(), name) {
				continue
			}
			for _, word := range conf.FieldsBraced(p.value(name)) {
				kind, _, _ := strings.Cut(strings.TrimLeft(word, "{ \t"), ":")
				if kind != "inet" && kind != "unix" && kind != "local" && !strings.HasPrefix(word, "#") {
					p.add(KindValue, name, "%s: %s is no server; write inet:HOST:PORT or unix:PATH", name, word)
				}
			}
		}
	}
}

// undefined tells of references to a name that nothing sets.
func (r *reviewer) undefined(u Unused) {
	for _, p := range r.places() {
		if (p.s == nil) != (u.File == r.mainFile) {
			continue
		}
		for _, name := range p.names() {
			text, _ := p.config().Text(name)
			refers := false
			_ = macro.Names(text, func(n string) { refers = refers || n == u.Name })
			if !refers {
				continue
			}
			if near := r.nearest(u.Name); near != "" {
				p.add(KindUnknown, name, "%s: $%s has no value; is $%s meant?", name, u.Name, near)
			} else {
				p.add(KindUnknown, name, "%s: $%s has no value", name, u.Name)
			}
		}
	}
}

// withArguments are the programs whose command may have words that are no
// options.
var withArguments = []string{"pipe", "spawn"}

// commands looks at the rows of master.cf themselves.
func (r *reviewer) commands() {
	known := knownPrograms()
	seen := map[string]bool{}
	directory := r.config.String("daemon_directory")
	_, err := os.Stat(directory)
	for _, s := range r.services {
		p := place{r, s}
		if seen[s.String()] {
			p.add(KindService, "", "service %s is there twice", s)
		}
		seen[s.String()] = true
		if err == nil {
			if _, missing := os.Stat(filepath.Join(directory, s.program)); missing != nil && !strings.Contains(s.program, "/") {
				p.add(KindService, "", "service %s: there is no program %s", s, filepath.Join(directory, s.program))
			}
		}
		if slices.Contains(withArguments, s.program) || !known[s.program] {
			continue
		}
		if s.stray != "" {
			p.add(KindService, "", "service %s: the word %s is no option; a value with blanks stands in braces: -o { name = value }", s, s.stray)
		}
	}
}
