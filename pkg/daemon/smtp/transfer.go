package smtp

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/wire/smtp"
)

// commandBatch is how much output may be pending before the replies are read,
// and batchAge how old the last traffic may be (delivery.md §2.6).
const (
	commandBatch = 4096
	batchAge     = 10 * time.Second
)

// kind is a command whose reply is outstanding.
type kind uint8

const (
	cmdXforward1 kind = iota
	cmdXforward2
	cmdMail
	cmdRcpt
	cmdData
	cmdDot
	cmdReset
	cmdQuit
)

// phases name the commands in texts about lost connections.
var phases = [...]string{
	cmdXforward1: "sending XFORWARD name/address",
	cmdXforward2: "sending XFORWARD protocol/helo_name",
	cmdMail:      "sending MAIL FROM",
	cmdRcpt:      "sending RCPT TO",
	cmdData:      "sending DATA command",
	cmdDot:       "sending end of data -- message may be sent more than once",
	cmdReset:     "sending final RSET",
	cmdQuit:      "sending QUIT",
}

const phaseBody = "sending message body"

// pending is a command without its reply yet.
type pending struct {
	kind kind
	rcpt *rcpt // of cmdRcpt, and of cmdDot with LMTP
}

// transfer is one mail transaction.
type transfer struct {
	r          *request
	s          *session
	pipelining bool
	waiting    []pending
	rcpts      []*rcpt // those of this transaction
	accepted   int
	mailed     bool // MAIL was accepted
	dataOK     bool
	failed     bool // nothing is to be hoped for any more: RSET
	lost       bool // the connection broke
	probe      bool
	timeouts   [cmdQuit + 1]time.Duration
	early      bool // the replies to come are from before the end of content
	downgrade  bool // 8-bit content becomes quoted-printable
}

// transfer sends the message to the recipients that are left. It returns false
// if the session broke or ended with trouble of the server's.
func (r *request) transfer(s *session) bool {
	if s.features&featSize != 0 && s.sizeLimit > 0 && s.sizeLimit < r.j.DataSize {
		r.sessionFailed(s, local("5.3.4", "message size "+strconv.FormatInt(r.j.DataSize, 10)+
			" exceeds size limit "+strconv.FormatInt(s.sizeLimit, 10)+" of server "+s.server.name()), false)
		return false
	}
	x := &transfer{r: r, s: s, pipelining: s.features&featPipelining != 0, probe: r.isProbe()}
	x.rcpts = append(x.rcpts, r.left...)
	x.timeouts = [...]time.Duration{r.d.xforwardTimeout, r.d.xforwardTimeout, r.d.mailTimeout, r.d.rcptTimeout,
		r.d.dataInitTimeout, r.d.dataDoneTimeout, r.d.rsetTimeout, r.d.quitTimeout}
	x.downgrade = r.d.mimeConvert && s.features&feat8BitMIME == 0 && r.j.Encoding != "7bit"
	for _, rc := range x.rcpts {
		rc.accepted = false
	}
	x.run()
	return !x.lost
}

// run goes through the commands in order. A lost connection ends it.
func (x *transfer) run() {
	if !x.envelope() {
		return
	}
	switch {
	case x.failed:
		x.reset()
		return
	case x.probe && !x.r.d.verifyData:
		x.reset()
		return
	}
	if !x.command(pending{kind: cmdData}, "DATA") {
		return
	}
	if x.failed {
		x.reset()
		return
	}
	if !x.sync() {
		return
	}
	if x.failed && !x.dataOK {
		x.reset()
		return
	}
	if x.probe && x.dataOK && x.accepted > 0 {
		x.s.dead = true
		return
	}
	if x.accepted > 0 && !x.content() {
		return
	}
	x.finish()
}

// envelope sends the commands before DATA.
func (x *transfer) envelope() bool {
	if x.r.earlyReply(x.s) {
		x.lost = true
		return false
	}
	one, two := x.xforward()
	if one != "" && !x.command(pending{kind: cmdXforward1}, one) {
		return false
	}
	if two != "" && !x.command(pending{kind: cmdXforward2}, two) {
		return false
	}
	if !x.command(pending{kind: cmdMail}, x.mailCommand()) {
		return false
	}
	for _, rc := range x.rcpts {
		if x.failed {
			break
		}
		if !x.command(pending{kind: cmdRcpt, rcpt: rc}, x.rcptCommand(rc)) {
			return false
		}
	}
	return true
}

// command sends a command, after the replies to earlier ones if they are due.
// The command is not sent if they make it senseless. It returns false when the
// connection is lost.
func (x *transfer) command(p pending, line string) bool {
	if len(x.waiting) > 0 && (x.s.conn.Unsent()+len(line)+2 > commandBatch || time.Since(x.s.conn.LastIO()) > batchAge) {
		if !x.sync() {
			return false
		}
		if x.failed && p.kind <= cmdData {
			return true
		}
	}
	x.s.conn.Timeout = x.timeouts[p.kind]
	x.s.conn.StartRequest()
	x.s.command(line)
	x.waiting = append(x.waiting, p)
	if !x.pipelining {
		return x.sync()
	}
	return true
}

// sync reads all outstanding replies.
func (x *transfer) sync() bool {
	for len(x.waiting) > 0 {
		p := x.waiting[0]
		if p.kind == cmdQuit && x.r.d.skipQuit {
			x.s.conn.Timeout = x.r.d.quitTimeout
			x.s.conn.Flush()
			x.s.dead = true
			return true
		}
		rep, err := x.s.reply(x.timeouts[p.kind])
		if err == nil && x.early && rep.Class() == 2 {
			err = io.ErrUnexpectedEOF // it cannot mean a message that it has not got
		}
		if err != nil {
			phase := phases[p.kind]
			if x.early && p.kind == cmdDot {
				phase = phaseBody
			}
			x.broken(err, phase, p.kind)
			return false
		}
		x.waiting = x.waiting[1:]
		replyActions[p.kind](x, p, rep)
	}
	return true
}

// broken ends the transaction with a lost connection. After the last command
// that matters nobody is told.
func (x *transfer) broken(err error, phase string, k kind) {
	x.lost, x.s.dead = true, true
	if k >= cmdReset {
		x.lost = false
		return
	}
	x.r.lostSession(x.s, err, phase)
}

var replyActions = [...]func(x *transfer, p pending, rep smtp.Reply){
	cmdXforward1: func(x *transfer, _ pending, rep smtp.Reply) { x.xforwardReply(rep, "name/address") },
	cmdXforward2: func(x *transfer, _ pending, rep smtp.Reply) { x.xforwardReply(rep, "helo/protocol") },
	cmdMail:      (*transfer).mailReply,
	cmdRcpt:      (*transfer).rcptReply,
	cmdData:      (*transfer).dataReply,
	cmdDot:       (*transfer).dotReply,
	cmdReset:     func(*transfer, pending, smtp.Reply) {},
	cmdQuit:      func(x *transfer, _ pending, _ smtp.Reply) { x.s.dead = true },
}

func (x *transfer) xforwardReply(rep smtp.Reply, what string) {
	if rep.Class() != 2 {
		x.r.d.log.Warn("host %s said: %s (in reply to XFORWARD %s command)", x.s.server.relay(), rep.OneLine(), what)
	}
}

// said is the status for a reply that refuses a command.
func (x *transfer) said(rep smtp.Reply, command string) dsn.Status {
	return x.s.refused(rep, rep.DSN, "host "+x.s.server.name()+" said: ", " (in reply to "+command+" command)")
}

func (x *transfer) mailReply(_ pending, rep smtp.Reply) {
	if rep.Class() == 2 {
		x.mailed = true
		return
	}
	x.failed = true
	x.r.sessionFailed(x.s, x.said(rep, "MAIL FROM"), false)
}

func (x *transfer) rcptReply(p pending, rep smtp.Reply) {
	last := len(x.waiting) == 0 || x.waiting[0].kind != cmdRcpt
	switch {
	case !x.mailed:
	case rep.Class() == 2 && x.probe && !x.r.d.verifyData:
		x.r.recipientDone(x.s, p.rcpt, x.success(rep))
	case rep.Class() == 2:
		p.rcpt.accepted = true
		x.accepted++
	default:
		x.r.recipientFailed(x.s, p.rcpt, x.said(rep, "RCPT TO"))
	}
	if last && x.accepted == 0 && p.rcpt == x.rcpts[len(x.rcpts)-1] {
		x.failed = true
	}
}

func (x *transfer) dataReply(_ pending, rep smtp.Reply) {
	if rep.Class() == 3 {
		x.dataOK = true
		if x.probe {
			st := x.success(rep)
			st.Code = "2.0.0"
			x.each(func(rc *rcpt) { x.r.recipientDone(x.s, rc, st) })
		}
		return
	}
	if x.accepted > 0 {
		st := x.said(rep, "DATA")
		x.each(func(rc *rcpt) { x.r.recipientFailed(x.s, rc, st) })
	}
	x.failed = true
}

func (x *transfer) dotReply(p pending, rep smtp.Reply) {
	ok := rep.Class() == 2
	var st dsn.Status
	switch {
	case ok:
		st = x.success(rep)
	case x.accepted > 0:
		st = x.said(rep, "end of DATA")
	}
	one := func(rc *rcpt) {
		if ok {
			x.r.recipientDone(x.s, rc, st)
		} else {
			x.r.recipientFailed(x.s, rc, st)
		}
	}
	if p.rcpt != nil {
		one(p.rcpt)
		return
	}
	x.each(one)
}

// each calls f for the accepted recipients.
func (x *transfer) each(f func(*rcpt)) {
	for _, rc := range x.rcpts {
		if rc.accepted {
			f(rc)
		}
	}
}

func (x *transfer) success(rep smtp.Reply) dsn.Status {
	return dsn.Status{Code: rep.DSN, Reason: rep.OneLine(), DiagType: "smtp", DiagText: rep.OneLine(), MTAType: "dns", MTAName: x.s.server.host}
}

// reset ends a transaction that came to nothing.
func (x *transfer) reset() {
	x.s.willCache = x.r.mayCache(x.s)
	if x.command(pending{kind: cmdReset}, "RSET") {
		x.end()
	}
}

// finish sends the end of content.
func (x *transfer) finish() {
	x.s.willCache = x.r.mayCache(x.s)
	x.s.conn.Timeout = x.timeouts[cmdDot]
	x.s.conn.StartRequest()
	if x.s.recording() {
		x.s.note("Out: .")
	}
	x.s.conn.WriteString(".\r\n")
	x.dots()
	if !x.pipelining && !x.sync() {
		return
	}
	x.end()
}

// dots says what replies follow the content: LMTP has one a recipient.
func (x *transfer) dots() {
	if !x.r.d.lmtp || x.accepted == 0 {
		x.waiting = append(x.waiting, pending{kind: cmdDot})
		return
	}
	x.each(func(rc *rcpt) { x.waiting = append(x.waiting, pending{kind: cmdDot, rcpt: rc}) })
}

// end reads what is outstanding, with a QUIT unless the session is kept.
func (x *transfer) end() {
	if !x.s.willCache {
		x.command(pending{kind: cmdQuit}, "QUIT")
	}
	if !x.sync() {
		return
	}
	if x.s.willCache && (x.s.forbidCache || x.s.conn.Buffered() > 0) {
		x.s.willCache = false
		x.s.quit()
	}
}

// content sends the message without the final dot. When the connection breaks
// in it one more reply is awaited: the server may have said why.
func (x *transfer) content() bool {
	err := x.sendContent()
	switch {
	case err == nil:
		return true
	case errors.Is(err, errAbandoned):
		x.s.dead = true
		return false
	case errors.Is(err, smtp.ErrTimeout):
		x.broken(err, phaseBody, cmdDot)
		return false
	}
	x.early = true
	x.s.conn.Release()
	x.s.conn.Replace(x.s.conn.NetConn())
	x.dots()
	x.s.dead = false
	if x.sync() {
		x.s.dead = true
	}
	return false
}

// xforward makes the XFORWARD commands, empty if there is nothing to say.
func (x *transfer) xforward() (one, two string) {
	if !x.r.d.sendXforward || x.s.features&featXforward == 0 {
		return "", ""
	}
	j := x.r.j
	source := "LOCAL"
	if j.RewriteContext == "remote" {
		source = "REMOTE"
	}
	attrs := [...]struct {
		name, value string
		unknown     bool // the word unknown is no value
		second      bool
	}{
		{"NAME", j.ClientName, true, false}, {"ADDR", j.ClientAddress, true, false}, {"PORT", j.ClientPort, true, false},
		{"PROTO", j.ClientProtocol, true, true}, {"HELO", j.ClientHelo, false, true}, {"IDENT", j.LogIdent, false, true}, {"SOURCE", source, false, true},
	}
	for _, a := range attrs {
		if a.value == "" || a.unknown && strings.EqualFold(a.value, "unknown") || !contains(x.s.sent, a.name) {
			continue
		}
		text := " " + a.name + "=" + dsn.XtextEncode(a.value, "")
		if a.second {
			two += text
		} else {
			one += text
		}
	}
	if one != "" {
		one = "XFORWARD" + one
	}
	if two != "" {
		two = "XFORWARD" + two
	}
	return one, two
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (x *transfer) mailCommand() string {
	r, f := x.r, x.s.features
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + r.quote(r.sender) + ">")
	if f&featSize != 0 && !x.downgrade {
		b.WriteString(" SIZE=" + strconv.FormatInt(r.j.DataSize, 10))
	}
	if f&feat8BitMIME != 0 {
		switch r.j.Encoding {
		case "8bit":
			b.WriteString(" BODY=8BITMIME")
		case "7bit":
			b.WriteString(" BODY=7BIT")
		}
	}
	if f&featDSN != 0 {
		if r.j.EnvelopeID != "" {
			b.WriteString(" ENVID=" + dsn.XtextEncode(r.j.EnvelopeID, "+="))
		}
		if ret := r.j.Ret.String(); ret != "" {
			b.WriteString(" RET=" + ret)
		}
	}
	if f&featSMTPUTF8 != 0 && r.j.SMTPUTF8&1 != 0 {
		b.WriteString(" SMTPUTF8")
	}
	return b.String()
}

func (x *transfer) rcptCommand(rc *rcpt) string {
	line := "RCPT TO:<" + x.r.quote(rc.mapped) + ">"
	if x.s.features&featDSN == 0 {
		return line
	}
	switch {
	case rc.DSNOrig != "":
		kind, addr, _ := strings.Cut(rc.DSNOrig, ";")
		if strings.EqualFold(kind, "utf-8") {
			addr = dsn.UnitextEncode(addr, false)
		} else {
			addr = dsn.XtextEncode(addr, "=")
		}
		line += " ORCPT=" + kind + ";" + addr
	case rc.Original == "":
	case x.r.j.SMTPUTF8 != 0 && !isASCII(rc.Original):
		line += " ORCPT=utf-8;" + dsn.UnitextEncode(rc.Original, false)
	default:
		line += " ORCPT=rfc822;" + dsn.XtextEncode(rc.Original, "=")
	}
	if rc.Notify != 0 {
		line += " NOTIFY=" + rc.Notify.String()
	}
	return line
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
