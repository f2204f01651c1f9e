package smtp

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/wire/smtp"
)

// features are what a server offers, by its reply to EHLO or LHLO.
type features uint16

const (
	feat8BitMIME features = 1 << iota
	featPipelining
	featSize
	featStartTLS
	featAuth
	featDSN
	featSMTPUTF8
	featXforward
	featESMTP
)

var featureNames = map[string]features{
	"8BITMIME": feat8BitMIME, "PIPELINING": featPipelining, "SIZE": featSize, "STARTTLS": featStartTLS,
	"AUTH": featAuth, "DSN": featDSN, "SMTPUTF8": featSMTPUTF8, "XFORWARD": featXforward,
}

const (
	phaseGreeting = "receiving the initial server greeting"
	phaseEHLO     = "performing the EHLO handshake"
	phaseHELO     = "performing the HELO handshake"
	phaseLHLO     = "performing the LHLO handshake"
	phaseStartTLS = "receiving the STARTTLS response"
)

// handshake brings a new connection to the point where mail can be sent
// (delivery.md §2.5). When it fails the recipients have been reported.
func (r *request) handshake(s *session) bool {
	if r.d.tls.wrapper {
		if !r.startTLS(s) {
			return false
		}
	}
	rep, err := s.reply(r.d.heloTimeout)
	if err != nil {
		r.sessionFailed(s, s.broken(err, phaseGreeting), true)
		return false
	}
	if rep.Class() != 2 {
		return r.notTalking(s, rep, rep.Class() == 5 && r.d.skip5xx)
	}
	pix, ok := r.pixWorkarounds(s, rep.Text)
	if !ok {
		return false
	}
	banner := ""
	if len(rep.Text) > 4 {
		banner = rep.Text[4:]
	}
	if s.server.port == smtpPort && strings.EqualFold(firstWord(firstLine(banner)), r.d.myhostname) {
		r.d.log.Warn("host %s greeted me with my own hostname %s", s.server.relay(), r.d.myhostname)
	}
	esmtp := r.d.lmtp || r.d.alwaysEHLO || hasWord(banner, "ESMTP")
	if r.d.neverEHLO || strings.Contains(pix, "disable_esmtp") {
		esmtp = r.d.lmtp
	}
	if !r.hello(s, esmtp) {
		return false
	}
	if !r.needsUTF8(s) {
		return false
	}
	if !r.d.tls.wrapper && !r.maybeStartTLS(s, esmtp) {
		return false
	}
	return r.authenticate(s)
}

// notTalking reports a server that refuses at the banner or HELO.
func (r *request) notTalking(s *session, rep smtp.Reply, soften bool) bool {
	code := rep.DSN
	if soften && code != "" && code[0] == '5' {
		code = "4" + code[1:]
	}
	r.sessionFailed(s, s.refused(rep, code, "host "+s.server.name()+" refused to talk to me: ", ""), true)
	s.quit()
	return false
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func hasWord(text, word string) bool {
	for _, w := range strings.Fields(text) {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// hello sends EHLO, HELO or LHLO and notes what the server offers.
func (r *request) hello(s *session, esmtp bool) bool {
	s.features, s.sizeLimit, s.sent = 0, 0, nil
	verb, phase := "EHLO ", phaseEHLO
	switch {
	case r.d.lmtp:
		verb, phase = "LHLO ", phaseLHLO
	case !esmtp:
		verb, phase = "HELO ", phaseHELO
	}
	rep, err := s.ask(verb+r.d.heloName, r.d.heloTimeout)
	if err != nil {
		r.lostSession(s, err, phase)
		return false
	}
	if rep.Class() != 2 && esmtp && !r.d.lmtp && rep.Code != 421 {
		esmtp = false
		if rep, err = s.ask("HELO "+r.d.heloName, r.d.heloTimeout); err != nil {
			r.lostSession(s, err, phaseHELO)
			return false
		}
	}
	if rep.Class() != 2 {
		return r.notTalking(s, rep, false)
	}
	if !r.ehloLines(s, rep, esmtp) {
		return false
	}
	if s.server.port == smtpPort && !r.d.lmtp && r.myOwn(s, rep) {
		return false
	}
	return true
}

// myOwn ends a conversation with ourselves.
func (r *request) myOwn(s *session, rep smtp.Reply) bool {
	first := firstLine(rep.Text)
	if len(first) < 4 || !strings.EqualFold(firstWord(first[4:]), r.d.myhostname) {
		return false
	}
	r.d.log.Warn("host %s replied to HELO/EHLO with my own hostname %s", s.server.relay(), r.d.myhostname)
	code := "4.4.6"
	if s.bestMX {
		code = "5.4.6"
	}
	r.sessionFailed(s, local(code, "mail for "+r.dest.host+" loops back to myself"), true)
	s.quit()
	return true
}

// ehloLines takes the features out of the reply.
func (r *request) ehloLines(s *session, rep smtp.Reply, esmtp bool) bool {
	if !esmtp {
		return true
	}
	discard, ok := r.discarded(s)
	if !ok {
		return false
	}
	found := parseEHLO(rep.Lines(), discard)
	if found.badSize != "" {
		r.d.log.Warn("bad EHLO SIZE limit \"%s\" from %s", found.badSize, s.server.relay())
	}
	s.features = found.features | featESMTP
	s.sizeLimit, s.sent = found.size, found.xforward
	s.noteMechanisms(found.auth, found.emptyAuth)
	if s.features&featSMTPUTF8 != 0 && s.features&feat8BitMIME == 0 {
		r.d.log.Info("host %s offers SMTPUTF8 support, but not 8BITMIME", s.server.name())
		s.features |= feat8BitMIME
	}
	return true
}

// offer is the parsed reply to EHLO.
type offer struct {
	features  features
	size      int64
	badSize   string
	xforward  []string // attribute names, upper case
	auth      []string // mechanisms
	emptyAuth bool     // an AUTH line named none
}

// parseEHLO understands the lines of a reply to EHLO but for the keywords in
// discard, which are upper case.
func parseEHLO(lines []string, discard map[string]bool) offer {
	var o offer
	for i, line := range lines {
		if i == 0 || len(line) < 4 {
			continue
		}
		words := strings.FieldsFunc(line[4:], func(c rune) bool { return c == ' ' || c == '\t' || c == '=' })
		if len(words) == 0 {
			continue
		}
		key := strings.ToUpper(words[0])
		if discard[key] {
			continue
		}
		o.features |= featureNames[key]
		switch key {
		case "SIZE":
			if len(words) > 1 {
				n, err := strconv.ParseInt(words[1], 10, 64)
				if err != nil || n < 0 || words[1][0] == '+' {
					o.badSize = words[1]
				} else {
					o.size = n
				}
			}
		case "XFORWARD":
			for _, w := range words[1:] {
				o.xforward = append(o.xforward, strings.ToUpper(w))
			}
		case "AUTH":
			o.emptyAuth = o.emptyAuth || len(words) == 1
			for _, w := range words[1:] {
				if !slices.Contains(o.auth, w) {
					o.auth = append(o.auth, w)
				}
			}
		}
	}
	return o
}

// discarded is the set of EHLO keywords to ignore from this server.
func (r *request) discarded(s *session) (map[string]bool, bool) {
	list := r.d.discardKeywords
	if !r.d.tables.discardEHLO.Empty() {
		value, found, err := r.d.tables.discardEHLO.Find(r.ctx, s.server.addr.String())
		if err != nil {
			r.sessionFailed(s, s.dataError(), true)
			return nil, false
		}
		if found {
			list = value
		}
	}
	if list == "" {
		return nil, true
	}
	set := make(map[string]bool)
	for _, w := range conf.Fields(list) {
		set[strings.ToUpper(w)] = true
	}
	var shown []string
	for _, w := range discardable {
		if set[w] {
			shown = append(shown, w)
		}
	}
	if !set["SILENT-DISCARD"] && len(shown) > 0 {
		r.d.log.Info("discarding EHLO keywords: %s", strings.Join(shown, " "))
	}
	return set, true
}

// discardable are the keywords that smtp_discard_ehlo_keywords can name, in the
// order in which they are logged.
var discardable = [...]string{"8BITMIME", "AUTH", "ETRN", "PIPELINING", "SIZE", "VERP", "VRFY", "XCLIENT", "XFORWARD", "STARTTLS", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING"}

// pixWorkarounds recognises a firewall that hides the banner.
func (r *request) pixWorkarounds(s *session, banner string) (string, bool) {
	if r.d.pixWorkarounds == "" && r.d.tables.pix.Empty() || strings.Trim(banner, "20 *\t\n") != "" || !strings.Contains(banner, "*") {
		return "", true
	}
	list := r.d.pixWorkarounds
	if !r.d.tables.pix.Empty() {
		value, found, err := r.d.tables.pix.Find(r.ctx, s.server.addr.String())
		if err != nil {
			r.sessionFailed(s, s.dataError(), true)
			return "", false
		}
		if found {
			list = value
		}
	}
	young := time.Since(r.stats.Incoming) < r.d.pixThreshold
	var active []string
	for _, w := range conf.Fields(list) {
		if w == "delay_dotcrlf" {
			if young {
				continue
			}
			s.delayDot = true
		}
		active = append(active, w)
	}
	text := strings.Join(active, " ")
	if text != "" {
		r.d.log.Info("%s: enabling PIX workarounds: %s for %s", r.j.ID, text, s.server.relay())
	}
	return text, true
}

// needsUTF8 refuses a server that cannot take an internationalised message.
func (r *request) needsUTF8(s *session) bool {
	const requested, wanted = 1, 2 | 4 | 8
	flags := r.j.SMTPUTF8
	if flags&requested == 0 || flags&wanted == 0 || s.features&featSMTPUTF8 != 0 {
		return true
	}
	r.sessionFailed(s, local("5.6.7", "SMTPUTF8 is required, but was not offered by host "+s.server.name()), false)
	s.quit()
	return false
}
