package postscreen

import (
	"fmt"
	"strings"

	"posthaste/pkg/message/address"
	"posthaste/pkg/wire/smtp"
)

// command is an SMTP command of the dummy engine.
type command struct {
	run    func(c *dialogue, args string)
	plain  bool // allowed before TLS where TLS is enforced
	binary bool // what follows it is not a command
	last   bool // QUIT
}

// commands are those that the engine knows.
var commands = map[string]command{
	"HELO":     {run: (*dialogue).cmdHelo, plain: true},
	"EHLO":     {run: (*dialogue).cmdEhlo, plain: true},
	"STARTTLS": {run: (*dialogue).cmdStartTLS, plain: true},
	"MAIL":     {run: (*dialogue).cmdMail},
	"RCPT":     {run: (*dialogue).cmdRcpt},
	"DATA":     {run: (*dialogue).cmdData},
	"BDAT":     {run: (*dialogue).cmdBdat, binary: true},
	"RSET":     {run: (*dialogue).cmdRset},
	"NOOP":     {run: func(c *dialogue, _ string) { c.reply("250 2.0.0 Ok") }, plain: true},
	"VRFY":     {run: (*dialogue).cmdVrfy},
	"ETRN":     {run: (*dialogue).cmdEtrn},
	"QUIT":     {run: func(c *dialogue, _ string) { c.quit("221 2.0.0 Bye") }, plain: true, last: true},
}

// reply answers a command.
func (c *dialogue) reply(format string, a ...any) {
	_, _ = c.conn.WriteString(smtp.FormatReply(c.dress(fmt.Sprintf(format, a...)))) // reading reports what is wrong
}

// quit is the last reply.
func (c *dialogue) quit(format string, a ...any) {
	c.reply(format, a...)
	c.over = true
}

// tryLater ends the session for a limit.
func (c *dialogue) tryLater() {
	c.quit("421 %s Service unavailable - try again later", c.d.set.hostname)
}

// hello is what HELO and EHLO have in common.
func (c *dialogue) hello(args, proto string) {
	c.helo, _ = cutWord(args)
	c.proto, c.sender = proto, nil
}

func (c *dialogue) cmdHelo(args string) {
	if args == "" {
		c.reply("501 Syntax: HELO hostname")
		return
	}
	c.hello(args, "SMTP")
	c.reply("250 %s", c.d.set.hostname)
}

func (c *dialogue) cmdEhlo(args string) {
	if args == "" {
		c.reply("501 Syntax: EHLO hostname")
		return
	}
	c.hello(args, "ESMTP")
	set := c.d.set
	size := "SIZE"
	if set.messageSize > 0 {
		size = fmt.Sprintf("SIZE %d", set.messageSize)
	}
	lines := []string{set.hostname}
	for _, k := range []struct {
		unless smtp.Keywords
		on     bool
		line   string
	}{
		{smtp.NoSIZE, true, size}, {smtp.NoVRFY, !set.disableVrfy, "VRFY"}, {smtp.NoETRN, true, "ETRN"},
		{smtp.NoSTARTTLS, set.useTLS && !c.tls, "STARTTLS"}, {smtp.NoENHANCED, true, "ENHANCEDSTATUSCODES"}, {smtp.No8BITMIME, true, "8BITMIME"},
		{smtp.NoDSN, true, "DSN"}, {smtp.NoSMTPUTF8, set.utf8, "SMTPUTF8"}, {smtp.NoCHUNKING, true, "CHUNKING"},
	} {
		if k.on && c.discard&k.unless == 0 {
			lines = append(lines, k.line)
		}
	}
	c.reply("%s", "250 "+strings.Join(lines, "\r\n250 "))
}

func (c *dialogue) cmdMail(args string) {
	switch addr, ok := pathOf(args); {
	case c.d.set.heloRequired && c.helo == "":
		c.reply("503 5.5.1 Error: send HELO/EHLO first")
	case c.sender != nil:
		c.reply("503 5.5.1 Error: nested MAIL command")
	case !ok:
		c.reply("501 5.5.4 Syntax: MAIL FROM:<address>")
	default:
		c.sender = &addr
		c.reply("250 2.1.0 Ok")
	}
}

// cmdRcpt refuses the recipient. Who comes as far as this speaks SMTP.
func (c *dialogue) cmdRcpt(args string) {
	addr, ok := pathOf(args)
	switch {
	case c.sender == nil:
		c.passDeep()
		c.reply("503 5.5.1 Error: need MAIL command")
	case !ok:
		c.passDeep()
		c.reply("501 5.5.4 Syntax: RCPT TO:<address>")
	default:
		c.passDeep()
		c.d.log.Info("NOQUEUE: reject: RCPT from %s: %s; from=<%s>, to=<%s>, proto=%s, helo=<%s>", c.name, c.softened(c.rcptReply),
			*c.sender, addr, c.proto, smtp.Printable(c.helo, '?'))
		c.reply("%s", c.rcptReply)
	}
}

// softened is a reply as it is sent, without its footer.
func (c *dialogue) softened(text string) string {
	if c.d.set.softBounce {
		return smtp.Soften(text)
	}
	return text
}

func (c *dialogue) cmdData(args string) {
	c.d.log.Info("DATA without valid RCPT from %s", c.name)
	switch {
	case args != "":
		c.quit("501 5.5.4 Syntax: DATA")
	case c.sender == nil:
		c.quit("503 5.5.1 Error: need RCPT command")
	default:
		c.quit("554 5.5.1 Error: no valid recipients")
	}
}

func (c *dialogue) cmdBdat(args string) {
	c.d.log.Info("BDAT without valid RCPT from %s", c.name)
	switch {
	case c.discard&smtp.NoCHUNKING != 0:
		c.quit("502 5.5.1 Error: command not implemented")
	case args == "":
		c.quit("501 5.5.4 Syntax: BDAT count [LAST]")
	case c.sender == nil:
		c.quit("554 5.5.1 Error: need MAIL command")
	default:
		c.quit("554 5.5.1 Error: no valid recipients")
	}
}

func (c *dialogue) cmdRset(string) {
	c.sender = nil
	c.reply("250 2.0.0 Ok")
}

func (c *dialogue) cmdVrfy(args string) {
	switch {
	case c.d.set.disableVrfy:
		c.reply("502 5.5.1 VRFY command is disabled")
	case args == "":
		c.reply("501 5.5.4 Syntax: VRFY address")
	default:
		c.reply("%s", c.rcptReply)
	}
}

func (c *dialogue) cmdEtrn(args string) {
	switch {
	case c.d.set.heloRequired && c.helo == "":
		c.reply("503 5.5.1 Error: send HELO/EHLO first")
	case args == "":
		c.reply("500 Syntax: ETRN domain")
	default:
		c.reply("458 Unable to queue messages")
	}
}

// pathOf takes the address out of "FROM:<address> PARAMETERS": what is in angle
// brackets or comes before a blank, without a source route, in the quoted form.
// Nobody checks it; it is for the log.
func pathOf(args string) (addr string, ok bool) {
	_, rest, ok := strings.Cut(args, ":")
	if !ok {
		return "", false
	}
	rest = strings.TrimLeft(rest, blanks)
	rest, angle := strings.CutPrefix(rest, "<")
	quoted := false
	end := len(rest)
scan:
	for i := 0; i < len(rest); i++ {
		switch ch := rest[i]; {
		case ch == '\\':
			i++
		case ch == '"':
			quoted = !quoted
		case quoted:
		case angle && ch == '>' || !angle && strings.IndexByte(blanks, ch) >= 0:
			end = i
			break scan
		}
	}
	rest = rest[:end]
	if strings.HasPrefix(rest, "@") {
		if _, after, found := strings.Cut(rest, ":"); found {
			rest = after
		}
	}
	if rest = address.Unquote(rest); rest == "" {
		return "", true
	}
	return address.Quote(rest), true
}
