package smtpd

import (
	"fmt"
	"strings"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/wire/smtp"
)

// errorClass is a set of classes of trouble, as in notify_classes.
type errorClass uint16

const (
	classPolicy errorClass = 1 << iota
	classProtocol
	classResource
	classSoftware
	classData
	classBounce
)

var classNames = [...]struct {
	class errorClass
	name  string
}{{classPolicy, "policy"}, {classProtocol, "protocol"}, {classResource, "resource"},
	{classSoftware, "software"}, {classData, "data"}, {classBounce, "bounce"}}

// notifyMask is the set that notify_classes names; delay and 2bounce are
// other programs'.
func notifyMask(words []string) (errorClass, error) {
	var mask errorClass
next:
	for _, w := range words {
		for _, c := range classNames {
			if strings.EqualFold(c.name, w) {
				mask |= c.class
				continue next
			}
		}
		if !strings.EqualFold(w, "delay") && !strings.EqualFold(w, "2bounce") {
			return 0, configError("unknown notify_classes value \"%s\" in \"%s\"", w, strings.Join(words, ", "))
		}
	}
	return mask, nil
}

// id is the queue id for log lines, or NOQUEUE.
func (s *session) id() string {
	if s.tx != nil && s.tx.queueID != "" {
		return s.tx.queueID
	}
	return "NOQUEUE"
}

// recipient is the one being processed, or the first accepted one.
func (s *session) recipient() (string, bool) {
	if s.checks.rcptGiven {
		return s.checks.rcpt, true
	}
	if s.checks.noRcpt {
		return "", false
	}
	if s.tx != nil && s.tx.rcptCount > 0 {
		return s.tx.firstRcpt, true
	}
	return "", false
}

// logContext is CTX of the spec: what is known about the transaction.
func (s *session) logContext() string {
	var b strings.Builder
	if sender, known := s.sender(); known {
		fmt.Fprintf(&b, " from=<%s>", s.logAddress(sender))
	}
	if rcpt, known := s.recipient(); known {
		fmt.Fprintf(&b, " to=<%s>", s.logAddress(rcpt))
	}
	fmt.Fprintf(&b, " proto=%s", s.proto)
	if s.heloGiven {
		fmt.Fprintf(&b, " helo=<%s>", s.helo)
	}
	return b.String()
}

func (s *session) logAddress(addr string) string {
	if s.srv.set.logInternalForm || addr == "" {
		return addr
	}
	return address.Quote(addr)
}

// logAction writes a line about a decision: "ID: ACTION: WHERE from ...".
func (s *session) logAction(action, text string) {
	s.log.Info("%s: %s: %s from %s: %s;%s", s.id(), action, s.where, s.peer.namaddr, text, s.logContext())
}

// stat counts the commands of one name.
type stat struct{ ok, total int32 }

// Indexes of session.stats, in the order of the disconnect line.
const (
	statHelo = iota
	statEhlo
	statXclient
	statXforward
	statStartTLS
	statAuth
	statMail
	statRcpt
	statData
	statBDAT
	statRset
	statNoop
	statVrfy
	statEtrn
	statQuit
	statUnknown
	statCount
)

var statNames = [statCount]string{"helo", "ehlo", "xclient", "xforward", "starttls", "auth", "mail", "rcpt", "data", "bdat", "rset", "noop", "vrfy", "etrn", "quit", "unknown"}

// statistics is the end of the disconnect line.
func (s *session) statistics() string {
	var b strings.Builder
	var all stat
	add := func(name string, n stat) {
		fmt.Fprintf(&b, " %s=%d", name, n.ok)
		if n.ok != n.total || n.total == 0 {
			fmt.Fprintf(&b, "/%d", n.total)
		}
	}
	for i, n := range s.stats {
		if n.total > 0 {
			add(statNames[i], n)
			all.ok += n.ok
			all.total += n.total
		}
	}
	add("commands", all)
	return b.String()
}

// history is the transcript of the session for a notice to the postmaster.
type history struct {
	lines   []string
	dropped bool
}

// historyFactor times smtpd_history_flush_threshold is how many lines of a
// transcript are kept; of a longer one the oldest are dropped.
const historyFactor = 2

func (s *session) record(direction, text string) {
	if s.srv.notify == 0 || s.standAlone {
		return
	}
	h := &s.history
	if limit := historyFactor * s.srv.set.historyFlush; len(h.lines) >= limit {
		h.lines = append(h.lines[:0], h.lines[len(h.lines)-limit/2:]...)
		h.dropped = true
	}
	if len(text) > 500 {
		text = text[:500]
	}
	h.lines = append(h.lines, direction+smtp.Printable(text, '?'))
}

// notice mails the transcript to the postmaster when an error of a class in
// notify_classes occurred; at other times than the end only when the
// transcript has become long (spec §1.11).
func (s *session) notice(end bool) {
	if s.srv.notify == 0 || s.standAlone || !end && len(s.history.lines) <= s.srv.set.historyFlush {
		return
	}
	lines, dropped, classes := s.history.lines, s.history.dropped, s.classes
	s.history, s.classes = history{}, 0
	if classes&s.srv.notify == 0 || len(lines) == 0 || s.srv.post == nil {
		return
	}
	to := s.srv.set.errorNotice
	if classes&classBounce != 0 {
		to = s.srv.set.bounceNotice
	}
	post, err := s.srv.post(s.ctx, s.srv.set.doubleBounce, to)
	if err != nil {
		s.log.Warn("postmaster notify: %v", err)
		return
	}
	if s.srv.obsoleteFrom {
		post.Printf("From: MAILER-DAEMON (Mail Delivery System)")
		post.Printf("To: %s (Postmaster)", to)
	} else {
		post.Printf("From: Mail Delivery System <MAILER-DAEMON>")
		post.Printf("To: Postmaster <%s>", to)
	}
	post.Printf("Subject: %s SMTP server: errors from %s", s.srv.set.mailName, s.peer.namaddr)
	post.Printf("")
	post.Printf("Transcript of session follows.")
	post.Printf("")
	if dropped {
		post.Printf(" [earlier lines left out]")
	}
	for _, line := range lines {
		for _, part := range wrap(line, 78, 4) {
			post.Printf("%s", " "+part)
		}
	}
	post.Printf("")
	if s.reason != "" && end {
		post.Printf("Session aborted, reason: %s", s.reason)
	}
	post.Printf("")
	post.Printf("For other details, see the local mail logfile")
	if result, err := post.Close(); err != nil {
		s.log.Warn("postmaster notify: %v", err)
	} else if result.Status != cleanup.OK {
		s.log.Warn("postmaster notify: %s", result.Status.Text())
	}
}

// wrap breaks a line at blanks so that no part is longer than width bytes;
// later parts are indented.
func wrap(line string, width, indent int) []string {
	var parts []string
	pad := ""
	for len(pad)+len(line) > width {
		room := width - len(pad)
		i := strings.LastIndexByte(line[:room+1], ' ')
		if i <= 0 {
			i = room
		}
		parts = append(parts, pad+line[:i])
		line = strings.TrimLeft(line[i:], " ")
		pad = strings.Repeat(" ", indent)
	}
	return append(parts, pad+line)
}
