package smtpd

import (
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/wire/smtp"
)

// transaction is one message on its way in, from MAIL to the end of its
// content.
type transaction struct {
	mailLine  string // the client's MAIL command as it was
	sender    string // internal form, "" is the null sender
	encoding  string // 7bit, 8bit or ""
	size      int64  // declared, then received
	envelope  string // ENVID, decoded
	ret       dsn.Ret
	verp      string
	utf8      bool
	saslAuth  string // MAIL AUTH=
	rewriting string // header rewriting context: local, remote
	arrival   time.Time
	instance  string

	rcptCount int
	firstRcpt string
	overshoot int

	sink    messageSink
	proxy   *proxySink // the sink, if it is a before-queue filter
	queueID string

	// What access tables and the like asked for.
	hold, discard    bool
	filter, redirect string
	bcc, prepend     []string

	content *content
}

// contentBytes is how much of the content has arrived, for the log.
func (tx *transaction) contentBytes() int64 {
	if tx.content == nil {
		return 0
	}
	if c := tx.content; c.chunk > 0 {
		return c.before + c.chunk
	}
	return tx.content.size
}

// extractAddress takes the address out of a MAIL, RCPT or VRFY argument
// (spec §2.2) and has the resolver look at it.
func (s *session) extractAddress(word smtp.Token, allowEmpty, utf8OK bool) (string, bool) {
	if word.Bad {
		return "", false
	}
	addr, ok := s.parseAddress(word.Text, allowEmpty)
	if ok && addr != "" && !s.standAlone {
		reply, err := s.srv.rewrite.Resolve(s.ctx, "", addr)
		switch {
		case err != nil || reply.Flags&rewrite.Error != 0:
			ok = false
		case !utf8OK && !isASCII(domainOf(reply.Recipient)):
			ok = false
		}
	}
	if !ok {
		s.log.Warn("Illegal address syntax from %s in %s command: %s", s.peer.namaddr, s.where, smtp.Printable(word.Text, '?'))
	}
	return addr, ok
}

// addressTokens bounds the work on one address.
const addressTokens = 1000

func (s *session) parseAddress(text string, allowEmpty bool) (string, bool) {
	strict := s.srv.set.strictEnvelopes
	inner := text
	if len(inner) >= 2 && inner[0] == '<' && inner[len(inner)-1] == '>' {
		inner = inner[1 : len(inner)-1]
	}
	if strings.HasPrefix(inner, "@") {
		if i := strings.IndexByte(inner, ':'); i >= 0 {
			inner = inner[i+1:]
		}
	}
	list := address.Parse(inner, addressTokens)
	count, other := 0, 0
	for _, t := range list {
		if t.Kind == address.Address {
			count++
		} else {
			other++
		}
	}
	addr := ""
	list.Addresses(func(words address.List) { addr = words.Internal() })
	switch {
	case count > 1, strict && (other > 0 || text[0] != '<'):
		return "", false
	case addr == "":
		return "", allowEmpty
	case strict && addr[0] == '@':
		return "", false
	}
	return addr, true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func domainOf(addr string) string {
	return addr[strings.LastIndexByte(addr, '@')+1:]
}

func (s *session) cmdMail(args []smtp.Token) bool {
	set := s.srv.set
	switch {
	case !s.heloGiven && set.heloRequired:
		return s.protocolError("503 5.5.1 Error: send HELO/EHLO first")
	case s.tx != nil:
		return s.protocolError("503 5.5.1 Error: nested MAIL command")
	case s.bdat != bdatNone:
		return s.protocolError("503 5.5.1 Error: MAIL after BDAT")
	case len(args) < 3 || !strings.EqualFold(args[1].Text, "from:"):
		return s.protocolError("501 5.5.4 Syntax: MAIL FROM:<address>")
	}
	if s.limited(s.messageRate) {
		return false
	}
	tx := &transaction{rewriting: "remote", arrival: s.srv.now(), mailLine: s.line}
	for _, a := range args[3:] {
		if set.utf8 && s.discard&smtp.NoSMTPUTF8 == 0 && strings.EqualFold(a.Text, "SMTPUTF8") {
			tx.utf8 = true
		}
	}
	addr, ok := s.extractAddress(args[2], true, tx.utf8)
	if !ok {
		return s.protocolError("501 5.1.7 Bad sender address syntax")
	}
	if fixed, ok := s.srv.probeSender(addr); ok {
		addr = fixed
	}
	tx.sender = addr
	for _, a := range args[3:] {
		if text := s.mailParameter(tx, a.Text); text != "" {
			s.classes |= classProtocol
			s.reply("%s", text)
			return false
		}
	}
	tx.size = s.declaredSize
	s.checks.sender, s.checks.senderGiven = addr, true
	text := s.checkSize(tx.size)
	s.checks.senderGiven = false
	if text != "" {
		s.reply("%s", text)
		return false
	}
	if tx.verp != "" && addr == "" {
		return s.protocolError("503 5.5.4 Error: XVERP requires non-null sender")
	}
	if !s.standAlone && !set.delayReject {
		s.tx = tx // tables may put something into it
		text := s.checkMail(addr)
		s.tx = nil
		if text != "" {
			s.reply("%s", text)
			return false
		}
	}
	if text := s.milterMail(tx, addr, args[2:]); text != "" {
		s.reply("%s", text)
		return false
	}
	if !s.standAlone {
		local, text := s.localClient()
		if text != "" {
			s.logPending("reject", text, addr)
			s.reply("%s", text)
			return false
		}
		if local {
			tx.rewriting = "local"
		}
	}
	s.noteUTF8("sender", addr)
	if !isASCII(addr) && !tx.utf8 && set.strictUTF8 && set.utf8 {
		return s.protocolError("553 5.6.7 Must declare SMTPUTF8 to send unicode address")
	}
	if text := s.checkSpace(); text != "" {
		s.reply("%s", text)
		return false
	}
	s.tx = tx
	tx.instance = s.newInstance(tx.arrival)
	if !set.delayOpen && !s.openMessage() {
		s.tx = nil
		return false
	}
	s.reply("250 2.1.0 Ok")
	return true
}

// logPending logs a refusal that comes before the sender is the
// transaction's.
func (s *session) logPending(action, text, sender string) {
	saved := s.checks
	s.checks.sender, s.checks.senderGiven = sender, true
	s.logAction(action, text)
	s.checks = saved
}

// mailParameter understands one ESMTP parameter of MAIL; the result is an
// error reply or "".
func (s *session) mailParameter(tx *transaction, arg string) string {
	name, value, _ := strings.Cut(arg, "=")
	hasValue := len(name) < len(arg)
	const dsnOff = "501 5.7.1 DSN support is disabled"
	switch key := strings.ToUpper(name); {
	case strings.EqualFold(arg, "BODY=8BITMIME"):
		tx.encoding = "8bit"
	case strings.EqualFold(arg, "BODY=7BIT"):
		tx.encoding = "7bit"
	case key == "SIZE" && hasValue:
		return s.sizeParameter(value)
	case key == "SMTPUTF8" && !hasValue && tx.utf8:
	case key == "AUTH" && hasValue:
		if tx.saslAuth != "" {
			return "503 5.5.4 Error: multiple AUTH= options"
		}
		if value != "<>" {
			tx.saslAuth = smtp.Printable(value, '?')
		}
	case key == "XVERP" && s.verpAllowed().granted:
		return s.verpParameter(tx, value, hasValue)
	case key == "RET" && hasValue:
		ret, ok := dsn.ParseRet(value)
		if s.discard&smtp.NoDSN != 0 {
			return dsnOff
		}
		if !ok || tx.ret != 0 {
			return "501 5.5.4 Bad RET parameter syntax"
		}
		tx.ret = ret
	case key == "ENVID" && hasValue:
		if s.discard&smtp.NoDSN != 0 {
			return dsnOff
		}
		id, err := dsn.XtextDecode(value)
		if err != nil || tx.envelope != "" || id == "" || !printableASCII(id) {
			return "501 5.5.4 Bad ENVID parameter syntax"
		}
		tx.envelope = id
	default:
		return "555 5.5.4 Unsupported option: " + smtp.Printable(arg, '?')
	}
	return ""
}

func printableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (s *session) sizeParameter(value string) string {
	for i := 0; i < len(value); i++ {
		if value[i] < '0' || value[i] > '9' {
			return "501 5.5.4 Bad message size syntax"
		}
	}
	if value == "" {
		return "501 5.5.4 Bad message size syntax"
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return "552 5.3.4 Message size exceeds file system imposed limit"
	}
	s.declaredSize = n
	return ""
}

func (s *session) verpParameter(tx *transaction, value string, given bool) string {
	tx.verp = s.srv.defaultVERP
	if !given {
		return ""
	}
	if len(value) != 2 || strings.Trim(value, s.srv.set.verpFilter) != "" {
		return "501 5.5.4 Error: XVERP needs two characters from " + s.srv.set.verpFilter
	}
	tx.verp = value
	return ""
}

// checkSize refuses a declared size beyond message_size_limit.
func (s *session) checkSize(size int64) string {
	if limit := s.srv.set.messageSize; limit > 0 && size > limit {
		return s.refuse(classBounce, 552, "5.3.4", "Message size exceeds fixed limit")
	}
	return ""
}

// checkSpace refuses mail while the queue file system is nearly full (§2.5).
func (s *session) checkSpace() string {
	if s.srv.set.proxyFilter != "" && !s.srv.set.speedAdjust && !s.standAlone {
		return "" // nothing is stored here
	}
	var fs syscall.Statfs_t
	if err := statfs(s.srv.queueDir, &fs); err != nil || fs.Bsize <= 0 {
		return ""
	}
	return s.spaceVerdict(int64(fs.Bavail), fs.Bsize)
}

// statfs is that of package syscall, behind the Go scheduler's back: it reads
// counters in memory.
func statfs(path string, fs *syscall.Statfs_t) error {
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_STATFS, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(fs)), 0); errno != 0 {
		return errno
	}
	return nil
}

func (s *session) spaceVerdict(free, block int64) string {
	set := s.srv.set
	if (set.queueMinFree <= 0 || set.queueMinFree/block < free) && set.messageSize/block < int64(float64(free)/1.5) {
		return ""
	}
	text := s.refuse(classResource, 452, "4.3.1", "Insufficient system storage")
	s.log.Warn("not enough free space in mail queue: %d bytes < 1.5*message size limit", free*block)
	return text
}

func (s *session) cmdRcpt(args []smtp.Token) bool {
	set := s.srv.set
	tx := s.tx
	switch {
	case tx == nil:
		return s.protocolError("503 5.5.1 Error: need MAIL command")
	case s.bdat != bdatNone:
		return s.protocolError("503 5.5.1 Error: RCPT after BDAT")
	case len(args) < 3 || !strings.EqualFold(args[1].Text, "to:"):
		return s.protocolError("501 5.5.4 Syntax: RCPT TO:<address>")
	}
	if s.limited(s.rcptRate) {
		return false
	}
	addr, ok := s.extractAddress(args[2], false, tx.utf8)
	if !ok {
		return s.protocolError("501 5.1.3 Bad recipient address syntax")
	}
	fixed, probe := s.srv.probeSender(addr)
	if probe {
		addr = fixed // the answer to one of our own probes comes back to us
	}
	rcpt := recipientOptions{}
	for _, a := range args[3:] {
		if text := s.rcptParameter(&rcpt, a.Text); text != "" {
			s.classes |= classProtocol
			s.reply("%s", text)
			return false
		}
	}
	if tx.rcptCount >= set.recipientLimit {
		s.reply("452 4.5.3 Error: too many recipients")
		if tx.overshoot++; tx.overshoot <= set.overshootLimit {
			return true
		}
		s.classes |= classPolicy
		return false
	}
	tx.overshoot = 0
	s.noteUTF8("recipient", addr)
	if !isASCII(addr) && !tx.utf8 && set.strictUTF8 && set.utf8 {
		return s.protocolError("553 5.6.7 Must declare SMTPUTF8 to send unicode address")
	}
	if !s.standAlone {
		refusal := ""
		if !probe {
			refusal = s.checkRcpt(addr)
		}
		if text := s.milterRcpt(addr, args[2:], refusal); text != "" {
			s.reply("%s", text)
			return false
		}
	}
	s.checks.rcpt, s.checks.rcptGiven = addr, true
	opened := tx.sink != nil || s.openMessage()
	if opened && tx.proxy != nil {
		opened = s.proxyCommand(s.line, '2')
	}
	s.checks.rcptGiven = false
	if !opened {
		return false
	}
	if rcpt.original == "" {
		text := args[2].Text
		if len(text) >= 2 && text[0] == '<' && text[len(text)-1] == '>' {
			text = text[1 : len(text)-1]
		}
		rcpt.original = "rfc822;" + text
		if !isASCII(text) {
			rcpt.original = "utf-8;" + text
		}
	}
	s.putRecipient(addr, rcpt)
	if tx.rcptCount++; tx.rcptCount == 1 {
		tx.firstRcpt = addr
	}
	s.reply("250 2.1.5 Ok")
	return true
}

// recipientOptions are the DSN parameters of RCPT.
type recipientOptions struct {
	notify   dsn.Notify
	original string // "type;address", decoded
}

func (s *session) rcptParameter(r *recipientOptions, arg string) string {
	name, value, ok := strings.Cut(arg, "=")
	const dsnOff = "501 5.7.1 DSN support is disabled"
	switch key := strings.ToUpper(name); {
	case key == "NOTIFY" && ok:
		if s.discard&smtp.NoDSN != 0 {
			return dsnOff
		}
		notify, err := dsn.ParseNotify(strings.Join(notifyWords(value), ",")) // empty words do no harm
		if err != nil || r.notify != 0 {
			s.warnNotify(value)
			return "501 5.5.4 Error: Bad NOTIFY parameter syntax"
		}
		r.notify = notify
	case key == "ORCPT" && ok:
		if s.discard&smtp.NoDSN != 0 {
			return dsnOff
		}
		original, ok := decodeORCPT(value)
		if !ok || r.original != "" {
			return "501 5.5.4 Error: Bad ORCPT parameter syntax"
		}
		r.original = original
	default:
		return "555 5.5.4 Unsupported option: " + smtp.Printable(arg, '?')
	}
	return ""
}

func notifyWords(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}

// warnNotify names the word of a NOTIFY list that nobody knows.
func (s *session) warnNotify(value string) {
	for _, word := range notifyWords(value) {
		if _, err := dsn.ParseNotify(word); err != nil {
			s.log.Warn("unknown DSN NOTIFY command value \"%s\" in \"%s\"", smtp.Printable(word, '?'), smtp.Printable(value, '?'))
			return
		}
	}
}

// decodeORCPT turns "type;xtext" into "type;address" (RFC 3461 §4.2, RFC 6533
// for type utf-8).
func decodeORCPT(value string) (string, bool) {
	kind, encoded, ok := strings.Cut(value, ";")
	if !ok || kind == "" {
		return "", false
	}
	var addr string
	var err error
	if strings.EqualFold(kind, "utf-8") {
		addr, err = dsn.UnitextDecode(encoded)
		if err == nil && !strings.Contains(encoded, "\\") {
			addr, err = dsn.XtextDecode(encoded)
		}
	} else {
		addr, err = dsn.XtextDecode(encoded)
	}
	if err != nil {
		return "", false
	}
	return smtp.Printable(kind+";"+addr, '?'), true
}

// dropMessage gives an unfinished message up.
func (s *session) dropMessage() {
	if s.tx != nil && s.tx.sink != nil {
		s.tx.sink.Abort()
		s.tx.sink, s.tx.proxy = nil, nil
		s.tx.queueID = ""
	}
}

// status names of cleanup that smtpd sets itself.
const (
	errNone  = cleanup.OK
	errWrite = cleanup.StatusWrite
	errSize  = cleanup.StatusSize
)
