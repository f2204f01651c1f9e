package postscreen

import (
	"posthaste/pkg/conf/macro"
	"posthaste/pkg/wire/smtp"
)

// dress adds what postscreen_reject_footer or its maps have for a reply, and
// softens it with soft_bounce (spec §3.1, §8.2).
func (s *session) dress(text string) string {
	if text[0] != '4' && text[0] != '5' {
		return text
	}
	set, log := s.d.set, s.d.log
	footer := set.footer
	if maps := s.d.tables.footers; !maps.Empty() {
		ctx, cancel := s.limited()
		defer cancel()
		value, found, err := maps.Find(ctx, text)
		if err != nil {
			log.Warn("lookup error in postscreen_reject_footer_maps for \"%.100s\"", text)
		} else if found {
			footer = value
		}
	}
	if footer != "" {
		var err error
		text, err = smtp.AddFooter(text, footer, func(part string) (string, error) {
			return macro.Expand(part, s.macro, macro.Options{Filter: set.filter})
		})
		if err != nil {
			log.Warn("%v", err)
		}
	}
	if set.softBounce && text[0] == '5' {
		text = smtp.Soften(text)
	}
	return text
}

// macro is the value of a macro in a footer.
func (s *session) macro(name string) (string, bool) {
	switch name {
	case "server_name":
		return s.d.set.hostname, true
	case "client_address":
		return s.addr, true
	case "client_port":
		return s.port, true
	case "localtime":
		return s.d.now().Format("Jan 02 15:04:05"), true
	}
	s.d.log.Warn("unknown macro name \"%s\" in expansion request", name)
	return "", false
}
