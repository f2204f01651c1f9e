package postscreen

import (
	"strings"
	"unicode/utf8"

	"posthaste/pkg/wire/smtp"
)

// Words of the log for where a client was when it had not given a known command.
const (
	whereConnect = "CONNECT"
	whereUnknown = "UNIMPLEMENTED"
)

// maxPipelined is how much of what was sent ahead is logged, in bytes.
const maxPipelined = 100

// dialogue is the session in the dummy SMTP engine: it answers like smtpd, but
// takes no recipient (spec §8.2).
type dialogue struct {
	*session
	conn     *smtp.Conn
	where    string // the last command
	commands int
	noticed  testSet // violations that were dealt with
	discard  smtp.Keywords

	helo   string
	proto  string
	sender *string // of the transaction; nil is none
	tls    bool
	over   bool
}

// engine talks with the client until one of both ends it.
func (s *session) engine() {
	c := &dialogue{session: s, conn: smtp.NewConn(s.nc, writeLimit), where: whereConnect, proto: "SMTP"}
	s.began = s.d.now()
	c.conn.PerRequest = true
	defer c.conn.Release()
	if !c.loadDiscard() {
		c.reply("421 %s Service unavailable - try again later", s.d.set.hostname)
		c.over = true
	} else if !s.spoke {
		c.reply("220 %s", s.d.set.banner)
	}
	for !c.over {
		c.conn.Timeout = s.d.pace().commandLimit
		c.conn.StartRequest()
		c.next()
	}
	c.conn.Timeout = writeLimit
	c.conn.StartRequest()
	_ = c.conn.Flush()
	if c.tls {
		_ = c.conn.NetConn().Close()
	}
	s.conclude()
	s.d.log.Info("DISCONNECT %s", s.name)
}

// loadDiscard finds the EHLO keywords that this client is not to see.
func (c *dialogue) loadDiscard() bool {
	list := c.d.set.discard
	ctx, cancel := c.limited()
	defer cancel()
	value, found, err := c.d.tables.ehlo.Find(ctx, c.addr)
	if err != nil {
		c.d.log.Warn("lookup error in postscreen_discard_ehlo_keyword_address_maps for \"%s\"", c.addr)
		return false
	}
	if found {
		list = value
	}
	c.discard = smtp.ParseKeywords(list)
	return true
}

// next reads a command and does it.
func (c *dialogue) next() {
	line, err := c.conn.ReadPiece(c.d.set.lineLimit-1, smtp.OneCR)
	switch {
	case err == smtp.ErrTimeout:
		c.d.log.Info("COMMAND TIME LIMIT from %s after %s", c.name, c.where)
		c.quit("421 4.4.2 %s Error: timeout exceeded", c.d.set.hostname)
		return
	case err != nil:
		c.hangup("after")
		c.over = true
		return
	case line.Long:
		c.d.log.Info("COMMAND LENGTH LIMIT from %s after %s", c.name, c.where)
		c.tryLater()
		return
	}
	if line.Bare && c.testing(bareLF) {
		c.d.log.Info("BARE NEWLINE from %s after %s", c.name, smtp.Escape(line.Text[:min(len(line.Text), maxShown)]))
		if c.violated(bareLF) {
			c.quit("521 " + protocolError)
			return
		}
	}
	if text, ok := c.filtered(string(line.Text)); ok {
		c.execute(text)
	}
}

// filtered applies postscreen_command_filter.
func (c *dialogue) filtered(line string) (string, bool) {
	filter := c.d.tables.command
	if filter == nil {
		return line, true
	}
	key := strings.TrimLeft(line, blanks)
	ctx, cancel := c.limited()
	defer cancel()
	value, found, err := filter.Lookup(ctx, key)
	if err != nil {
		c.d.log.Warn("%s lookup error for \"%.100s\"", filter.Name(), smtp.Printable(key, '?'))
		c.tryLater()
		return "", false
	}
	if !found {
		return line, true
	}
	c.d.log.Info("%s: replacing command \"%.100s\" with \"%.100s\"", c.name, smtp.Printable(key, '?'), smtp.Printable(value, '?'))
	return value, true
}

// execute does what one command line says.
func (c *dialogue) execute(line string) {
	if i := strings.IndexByte(line, 0); i >= 0 {
		line = line[:i]
	}
	word, args := cutWord(line)
	cmd, known := commands[strings.ToUpper(word)]
	if !known && c.notSMTP(word, args) {
		return
	}
	if !cmd.binary && c.pipelined(word) {
		return
	}
	if c.commands++; c.commands > c.d.set.commandCount && !cmd.last {
		c.d.log.Info("COMMAND COUNT LIMIT from %s after %s", c.name, c.where)
		c.tryLater()
		return
	}
	if c.where = whereUnknown; known {
		c.where = strings.ToUpper(word)
	}
	switch {
	case c.last != "" && !cmd.last:
		c.quit("%s", c.last)
	case !known:
		c.reply("502 5.5.2 Error: command not recognized")
	case c.d.set.enforceTLS && !c.tls && !cmd.plain:
		c.reply("530 5.7.0 Must issue a STARTTLS command first")
	default:
		cmd.run(c, args)
	}
}

// blanks separate the words of a command.
const blanks = " \t"

// cutWord takes the first word off a line; what follows it has no blanks around
// it.
func cutWord(line string) (word, rest string) {
	line = strings.Trim(line, blanks)
	i := strings.IndexAny(line, blanks)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], blanks)
}

// notSMTP is the test for commands of other protocols; it reports whether the
// session ends.
func (c *dialogue) notSMTP(word, args string) bool {
	ctx, cancel := c.limited()
	defer cancel()
	if !c.testing(nonSMTP) || !smtp.LooksLikeHeader(word) && utf8.ValidString(word) && !c.d.tables.forbids(ctx, word) {
		return false
	}
	c.d.log.Info("NON-SMTP COMMAND from %s after %s: %.100s", c.name, c.where, smtp.Printable(word+" "+args, '?'))
	if !c.violated(nonSMTP) {
		return false
	}
	c.quit("521 5.7.0 Error: I can break rules, too. Goodbye.")
	return true
}

// pipelined is the test for clients that do not wait for replies; it reports
// whether the session ends.
func (c *dialogue) pipelined(word string) bool {
	if !c.testing(pipelining) {
		return false
	}
	ahead := c.conn.Peek(maxPipelined)
	if len(ahead) == 0 {
		return false
	}
	c.d.log.Info("COMMAND PIPELINING from %s after %.100s: %s", c.name, smtp.Printable(word, '?'), smtp.Escape(ahead))
	if !c.violated(pipelining) {
		return false
	}
	c.quit("521 " + protocolError)
	return true
}

// testing reports whether a violation is to be noticed: the test is due, and
// nothing of the kind has happened yet.
func (c *dialogue) testing(test int) bool { return c.due.has(test) && !c.noticed.has(test) }

// violated notes a violation, and reports whether the client is to be dropped. An
// ignored one counts as passed for a short time.
func (c *dialogue) violated(test int) (dropped bool) {
	c.noticed |= 1 << test
	switch c.d.set.actions[test] {
	case drop:
		c.failed |= 1 << test
		return true
	case enforce:
		c.failed |= 1 << test
		c.rcptReply = "550 " + protocolError
	case ignore:
		c.pass(test, c.d.set.leastTTL)
	}
	return false
}

// passDeep counts the deep tests as passed that have found nothing so far.
func (c *dialogue) passDeep() {
	for test := range testCount {
		if bit := testSet(1) << test; c.due&deepTests&^c.noticed&^c.passed&bit != 0 {
			c.pass(test, c.d.set.ttl[test])
		}
	}
}
