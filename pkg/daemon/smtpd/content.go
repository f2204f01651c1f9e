package smtpd

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/wire/smtp"
)

// content passes message content on to cleanup as records (spec §2.7).
type content struct {
	tx       *transaction
	limit    int64 // message_size_limit, 0 is none
	size     int64 // accepted so far, each line with its CR LF
	status   cleanup.Status
	head     bool // still before the first line that is no mailbox "From " line
	midLine  bool // the last piece did not end its line
	exceeded bool
	bare     bool  // a bare LF was seen
	before   int64 // size at the beginning of a chunk that is being read
	chunk    int64 // bytes of it so far
}

func newContent(tx *transaction, limit int64) *content {
	return &content{tx: tx, limit: limit, head: true}
}

// line takes a line, or with more set a piece of one.
func (c *content) line(text []byte, more, mailbox bool) {
	continued := c.midLine
	c.midLine = more
	if c.status != cleanup.OK {
		return
	}
	if c.head && !continued {
		if mailbox && isMailboxFrom(text) {
			c.put(record.TypeNormal, append([]byte("X-Mailbox-Line: "), text...))
			return
		}
		c.head = false
		if mailbox && len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
			c.put(record.TypeNormal, nil)
		}
	}
	n := int64(len(text)) + 2
	if c.limit > 0 && c.size+n > c.limit {
		c.status |= errSize
		c.exceeded = true
		return
	}
	c.size += n
	t := record.TypeNormal
	if more {
		t = record.TypeContinued
	}
	c.put(t, text)
}

func (c *content) put(t record.Type, text []byte) {
	if c.status == cleanup.OK && c.tx.sink.Rec(t, text) != nil {
		c.status |= errWrite
	}
}

// isMailboxFrom recognises ">>From " lines of mailbox files.
func isMailboxFrom(text []byte) bool {
	i := 0
	for i < len(text) && text[i] == '>' {
		i++
	}
	return strings.HasPrefix(string(text[i:min(len(text), i+5)]), "From ")
}

// startable reports whether DATA or the first BDAT may begin; if not, the
// reply that says so.
func (s *session) startable() string {
	switch {
	case s.tx == nil:
		return "503 5.5.1 Error: need RCPT command"
	case s.tx.rcptCount == 0:
		return "554 5.5.1 Error: no valid recipients"
	}
	return ""
}

func (s *session) cmdData(args []smtp.Token) bool {
	if s.bdat != bdatNone {
		return s.protocolError("503 5.5.1 Error: DATA after BDAT")
	}
	if text := s.startable(); text != "" {
		return s.protocolError("%s", text)
	}
	if len(args) != 1 {
		return s.protocolError("501 5.5.4 Syntax: DATA")
	}
	if !s.standAlone {
		if text := s.checkData(); text != "" {
			s.reply("%s", text)
			return false
		}
	}
	if text := s.milterData(); text != "" {
		s.reply("%s", text)
		return false
	}
	if s.tx.proxy != nil && !s.proxyCommand("DATA", '3') {
		return false
	}
	s.startContent()
	s.reply("354 End data with <CR><LF>.<CR><LF>")
	s.where = whereData
	if !s.readData() {
		return false
	}
	return s.endOfMessage("")
}

// readData reads content up to the lone dot.
func (s *session) readData() bool {
	c := s.tx.content
	s.conn.MinRate = s.srv.set.minDataRate
	s.conn.SetBulk(true)
	defer func() { s.conn.MinRate = 0; s.conn.SetBulk(false) }()
	s.conn.StartRequest()
	proxy := s.tx.proxy
	if proxy != nil {
		proxy.stuff = false // the client did
	}
	d := smtp.NewDataReader(s.conn, s.srv.set.lineLimit, s.bare, proxy != nil)
	for {
		l, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.fail(err)
			return false
		}
		c.bare = d.SawBare && s.bare == smtp.BareReject
		if c.bare && proxy != nil {
			continue // the filter hears no more of it
		}
		c.line(l.Text, l.Long, true)
		s.warnSize()
	}
	c.bare = d.SawBare && s.bare == smtp.BareReject
	return true
}

// warnSize logs, once, that the message is too big.
func (s *session) warnSize() {
	if c := s.tx.content; c.exceeded {
		s.log.Warn("%s: queue file size limit exceeded", s.id())
		c.exceeded = false
	}
}

// endOfMessage ends the stream, waits for cleanup's verdict and answers.
// chunk is the part of the reply that only BDAT has.
func (s *session) endOfMessage(chunk string) bool {
	s.where = whereEOM
	tx := s.tx
	c := tx.content
	tx.size = c.size
	if !s.standAlone && c.status == cleanup.OK && !c.bare {
		if text := s.checkEndOfData(); text != "" {
			s.reply("%s", text)
			s.reset()
			return false
		}
	}
	if tx.proxy != nil {
		ok := s.endOfProxied()
		s.reset()
		s.notice(false)
		return ok
	}
	var result cleanup.Result
	if c.status == cleanup.OK && !c.bare {
		s.endContent()
		var err error
		result, err = tx.sink.Finish()
		tx.sink = nil
		if err != nil {
			result = cleanup.Result{Status: errWrite}
		}
	} else {
		s.abandon()
		result.Status = c.status
	}
	ok := s.answerMessage(result, chunk)
	s.reset()
	s.notice(false)
	return ok
}

// abandon gives the message up but keeps its id for the log.
func (s *session) abandon() {
	id := s.tx.queueID
	s.dropMessage()
	s.tx.queueID = id
}

// answerMessage is the table of spec §3.3.
func (s *session) answerMessage(r cleanup.Result, chunk string) bool {
	if s.tx.content.bare {
		s.rejectBareNewline()
		return false
	}
	if r.Status == cleanup.OK && r.Reason == "" {
		s.errors, s.classes, s.junk = 0, 0, 0
		if chunk == "" {
			s.reply("250 2.0.0 Ok: queued as %s", s.tx.queueID)
		} else {
			s.reply("250 2.0.0 Ok: %s queued as %s", chunk, s.tx.queueID)
		}
		return true
	}
	if isReply(r.Reason) {
		s.classes |= classPolicy
		s.reply("%s", printableLines(r.Reason))
		return r.Reason[0] == '2'
	}
	if r.Status == cleanup.OK {
		r.Reason = ""
		return s.answerMessage(r, chunk)
	}
	class, text := statusReply(r)
	s.classes |= class
	s.reply("%s", text)
	if s.milters.filters != nil && r.Status&errWrite != 0 {
		s.denied = "421 4.3.0 Mail system error" // the Milters do not know what became of the message
	}
	return false
}

// statusReply turns cleanup's status into a reply; the first matching row counts.
func statusReply(r cleanup.Result) (errorClass, string) {
	reason := smtp.Printable(r.Reason, ' ')
	switch has := func(bit cleanup.Status) bool { return r.Status&bit != 0 }; {
	case has(cleanup.StatusDefer):
		if reason == "" {
			reason = "4.7.1 Error: service unavailable"
		}
		return classPolicy, "451 " + reason
	case has(cleanup.StatusBad):
		return classSoftware, fmt.Sprintf("451 4.3.0 Error: internal error %d", int(r.Status))
	case has(cleanup.StatusSize):
		return classBounce, "552 5.3.4 Error: message file too big"
	case has(cleanup.StatusHops):
		return classBounce, "554 5.4.0 Error: too many hops"
	case has(cleanup.StatusContent):
		if reason == "" {
			reason = "5.7.1 Error: message content rejected"
		}
		return classPolicy, "550 " + reason
	case has(cleanup.StatusWrite):
		return classResource, "451 4.3.0 Error: queue file write error"
	case has(cleanup.StatusProxy):
		return classSoftware, "451 4.3.0 Error: queue file write error"
	}
	return classSoftware, fmt.Sprintf("451 4.3.0 Error: internal error %d", int(r.Status))
}

// isReply tells whether a reason is a whole SMTP reply, as milters make them.
func isReply(reason string) bool {
	if len(reason) < 3 || reason[0] != '4' && reason[0] != '5' {
		return false
	}
	for i := 1; i < 3; i++ {
		if reason[i] < '0' || reason[i] > '9' {
			return false
		}
	}
	return len(reason) == 3 || reason[3] == ' ' || reason[3] == '-'
}

// printableLines keeps line ends and replaces other control characters.
func printableLines(s string) string {
	lines := strings.Split(s, "\r\n")
	for i, line := range lines {
		lines[i] = smtp.Printable(line, ' ')
	}
	return strings.Join(lines, "\r\n")
}

// bdatState is where a transaction by BDAT is.
type bdatState byte

const (
	bdatNone  bdatState = iota
	bdatOpen            // chunks were accepted
	bdatError           // a chunk was refused: the rest is discarded
)

// maxChunk bounds the number in BDAT, which is read with care for overflow.
const maxChunk = 1<<62 - 1

func (s *session) cmdBDAT(args []smtp.Token) bool {
	if s.discard&smtp.NoCHUNKING != 0 {
		s.classes |= classProtocol
		s.reply("521 5.5.1 Error: command not implemented")
		return false
	}
	size, last, ok := parseBDAT(args)
	if !ok {
		s.log.Warn("%s: malformed BDAT command syntax from %s: %.100s", s.id(), s.peer.namaddr, smtp.Printable(rest(args, 0), '?'))
		return s.protocolError("521 5.5.4 Syntax: BDAT count [LAST]")
	}
	refusal := ""
	switch {
	case s.bdat == bdatError:
		refusal = fmt.Sprintf("551 5.0.0 Discarded %d bytes after earlier error", size)
	case size == 0 && !last:
		s.log.Warn("%s: null BDAT request from %s", s.id(), s.peer.namaddr)
		refusal = "551 5.7.1 Null BDAT request"
	case s.startable() != "":
		refusal = s.startable()
	case s.srv.set.messageSize > 0 && size > s.srv.set.messageSize-s.chunkedSize():
		s.log.Warn("%s: BDAT request from %s exceeds message size limit", s.id(), s.peer.namaddr)
		refusal = "552 5.3.4 Chunk exceeds message size limit"
	}
	if refusal == "" && s.bdat == bdatNone {
		if !s.standAlone {
			if text := s.checkData(); text != "" {
				return s.skipChunk(size, last, text, classPolicy)
			}
		}
		if text := s.milterData(); text != "" {
			return s.skipChunk(size, last, text, classPolicy)
		}
		if p := s.tx.proxy; p != nil && !p.command("DATA", '3') {
			return s.skipChunk(size, last, p.reply, classSoftware)
		}
		s.startContent()
		s.bdat = bdatOpen
	}
	if refusal != "" {
		return s.skipChunk(size, last, refusal, classProtocol)
	}
	return s.readChunk(size, last)
}

func (s *session) chunkedSize() int64 {
	if s.tx == nil || s.tx.content == nil {
		return 0
	}
	return s.tx.content.size
}

func parseBDAT(args []smtp.Token) (size int64, last, ok bool) {
	if len(args) < 2 || len(args) > 3 || len(args) == 3 && !strings.EqualFold(args[2].Text, "LAST") {
		return 0, false, false
	}
	for i := 0; i < len(args[1].Text); i++ {
		if ch := args[1].Text[i]; ch < '0' || ch > '9' {
			return 0, false, false
		}
	}
	n, err := strconv.ParseInt(args[1].Text, 10, 64)
	return n, len(args) == 3, err == nil && n <= maxChunk
}

// skipChunk throws a chunk away and answers with an error; with the last
// chunk the transaction ends.
func (s *session) skipChunk(size int64, last bool, text string, class errorClass) bool {
	if !s.eachPiece(size, func([]byte) {}) {
		return false
	}
	s.classes |= class
	s.reply("%s", text)
	s.dropMessage()
	if last {
		s.reset()
	} else {
		s.bdat = bdatError
	}
	return false
}

// eachPiece reads size bytes of a chunk piece by piece.
func (s *session) eachPiece(size int64, use func([]byte)) bool {
	s.conn.MinRate = s.srv.set.minDataRate
	s.conn.SetBulk(true)
	defer func() { s.conn.MinRate = 0; s.conn.SetBulk(false) }()
	s.conn.StartRequest()
	for size > 0 {
		var buf [2048]byte
		n, err := s.conn.ReadSome(buf[:min(size, int64(len(buf)))])
		if err != nil {
			s.fail(err)
			return false
		}
		use(buf[:n])
		size -= int64(n)
	}
	return true
}

// readChunk takes the content of an accepted chunk.
func (s *session) readChunk(size int64, last bool) bool {
	c := s.tx.content
	lines := s.chunkLines()
	s.where = whereBDAT
	c.chunk, c.before = 0, c.size
	ok := s.eachPiece(size, func(data []byte) {
		c.chunk += int64(len(data))
		lines.write(data, c, s.bare == smtp.BareReject)
		s.warnSize()
	})
	if !ok {
		return false
	}
	c.chunk, c.before = 0, 0
	if last {
		lines.end(c)
		s.warnSize()
		return s.endOfMessage(fmt.Sprintf("%d bytes", c.size))
	}
	if c.status != cleanup.OK || c.bare {
		if c.bare {
			s.rejectBareNewline()
		} else {
			class, text := statusReply(cleanup.Result{Status: c.status})
			s.classes |= class
			s.reply("%s", text)
		}
		if s.tx.proxy != nil {
			s.logProxied("proxy-reject")
		}
		s.dropMessage()
		s.bdat = bdatError
		return false
	}
	s.reply("250 2.0.0 Ok: %d bytes", size)
	return true
}

// chunkLines is the line splitter of this transaction; a line may go on in
// the next chunk.
func (s *session) chunkLines() *lineSplitter {
	if s.splitter == nil || s.splitter.tx != s.tx {
		s.splitter = &lineSplitter{tx: s.tx, limit: s.srv.set.lineLimit, anyCRs: s.bare == smtp.BareAllow}
	}
	return s.splitter
}

// lineSplitter cuts chunks into lines.
type lineSplitter struct {
	tx     *transaction
	limit  int
	anyCRs bool
	buf    []byte // the beginning of a line, at most limit+1 bytes
}

func (l *lineSplitter) write(data []byte, c *content, noBare bool) {
	for len(data) > 0 {
		n := len(data)
		i := strings.IndexByte(string(data[:min(n, l.limit+2)]), '\n')
		if i >= 0 {
			l.buf = append(l.buf, data[:i]...)
			data = data[i+1:]
			l.long(c, 1)
			text := l.buf
			bare := true
			for len(text) > 0 && text[len(text)-1] == '\r' {
				text, bare = text[:len(text)-1], false
				if !l.anyCRs {
					break
				}
			}
			if bare && noBare {
				c.bare = true
			}
			if !c.bare || c.tx.proxy == nil { // a filter hears no more of it
				c.line(text, false, false)
			}
			l.buf = l.buf[:0]
			continue
		}
		take := min(n, l.limit+2)
		l.buf = append(l.buf, data[:take]...)
		data = data[take:]
		l.long(c, 2)
	}
}

// long passes pieces of a long line on while there are more than limit bytes
// and something that is not a possible line end behind them.
func (l *lineSplitter) long(c *content, slack int) {
	for len(l.buf) >= l.limit+slack && !(slack == 1 && len(l.buf) == l.limit+1 && l.buf[l.limit] == '\r') {
		c.line(l.buf[:l.limit], true, false)
		l.buf = append(l.buf[:0], l.buf[l.limit:]...)
	}
}

// end completes a last line without newline.
func (l *lineSplitter) end(c *content) {
	if len(l.buf) > 0 || c.midLine {
		l.long(c, 1)
		text := l.buf
		c.line(text, false, false)
	}
	l.buf = nil
}
