package bounce

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/bouncelog"
)

// notice is what the letters made for one request have in common.
type notice struct {
	bounce.Request
	d        *daemon
	orig     *original
	template *template
	what     string // "non-delivery", for the log
	boundary string
	encoding string // Content-Transfer-Encoding; "" is not known
	main     string // the same in the message's own header
	utf8     bool   // the original needed SMTPUTF8
}

// letter is one message of a notice.
type letter struct {
	to         string
	postmaster bool       // a copy: sent from the double-bounce address, without template text
	double     bool       // sent from the double-bounce address
	full       bool       // return the whole original
	retry      bool       // say until when it will be tried
	notify     dsn.Notify // only recipients who asked for this, or for nothing; 0 is all
	set        entries
}

func (d *daemon) newNotice(r bounce.Request, class, what string) (*notice, error) {
	t := d.templates.byClass[class]
	orig, err := d.openOriginal(r.Queue, r.ID)
	if err != nil {
		return nil, err
	}
	n := &notice{Request: r, d: d, orig: orig, template: t, what: what,
		boundary: fmt.Sprintf("%s.%d/%s", r.ID, d.now().Unix(), d.hostname),
		utf8:     r.SMTPUTF8&1 != 0}
	switch {
	case d.utf8:
		n.encoding = "8bit"
	case strings.EqualFold(r.Encoding, "8bit"):
		n.encoding = "8bit"
	case strings.EqualFold(r.Encoding, "7bit"):
		n.encoding = "7bit"
	case r.Encoding != "":
		d.log.Warn("%s: unknown encoding: %.200s", r.ID, r.Encoding)
	}
	n.main = n.encoding
	if n.encoding == "7bit" {
		n.main = t.encoding()
	}
	return n, nil
}

func (n *notice) close() { n.orig.close() }

// wants tells whether a recipient gets this kind of notice (RFC 3461 §4.1).
func (l *letter) wants(e bouncelog.Entry) bool {
	return l.notify == 0 || e.Notify == 0 || e.Notify&l.notify != 0
}

// eligible reports whether anybody is to be told anything. A log that is missing
// or cannot be read must be told, too.
func (l *letter) eligible() bool {
	for e, err := range l.set {
		if err != nil || l.wants(e) {
			return true
		}
	}
	return false
}

// send posts a letter. It returns nil when the letter is in the queue, or when
// nobody is to be told.
func (n *notice) send(ctx context.Context, l letter) error {
	if !l.eligible() {
		return nil
	}
	w := &writer{notice: n, letter: l}
	if !l.postmaster {
		var err error
		if w.text, err = n.d.templates.expand(n.template); err != nil {
			n.d.log.Warn("%v", err)
			return err
		}
	}
	sender, role := "", "sender"
	if l.postmaster {
		role = "postmaster"
	}
	if l.postmaster || l.double {
		sender = n.d.doubleBounce
	}
	post, err := cleanup.NewPost(ctx, n.d.conf, cleanup.PostOptions{
		Sender: sender, Recipient: l.to, Class: cleanup.ClassBounce, UTF8: n.utf8, NoWait: true, Log: n.d.log, Now: n.d.now(),
	})
	if err != nil {
		return err
	}
	w.post = post
	w.header()
	w.notification()
	w.report()
	w.message()
	result, err := post.Close()
	if err == nil && result.Status != cleanup.OK {
		err = fmt.Errorf("%s: %s", post.QueueID, result.Status.Text())
	}
	if err != nil {
		return err
	}
	n.d.log.Info("%s: %s %s notification: %s", n.ID, role, n.what, post.QueueID)
	return nil
}

// writer writes one letter, part by part (routing.md §5.3). Errors of the post
// come out when it is closed.
type writer struct {
	post *cleanup.Post
	*notice
	letter letter
	text   []string // of the template, expanded
}

func (w *writer) line(format string, a ...any) { w.post.Printf(format, a...) }

func (w *writer) wrapped(format string, a ...any) {
	wrap(fmt.Sprintf(format, a...), func(line string) { w.post.Text([]byte(line)) })
}

func (w *writer) header() {
	subject, submitted := w.template.subject, "auto-replied"
	if w.letter.postmaster {
		submitted = "auto-generated"
		if w.template.postmaster != "" {
			subject = w.template.postmaster
		}
	}
	w.line("From: %s", w.template.fromLine(w.d.obsoleteFrom))
	w.line("Subject: %s", subject)
	w.line("To: %s", address.Quote(w.letter.to))
	w.thread()
	w.line("Auto-Submitted: %s", submitted)
	w.line("MIME-Version: 1.0")
	w.line("Content-Type: multipart/report; report-type=delivery-status;")
	w.line("\tboundary=\"%s\"", w.boundary)
	if w.main != "" {
		w.line("Content-Transfer-Encoding: %s", w.main)
	}
	w.line("")
	w.line("This is a MIME-encapsulated message.")
}

// part starts a part of the message.
func (w *writer) part(description, contentType string, encoded bool) {
	w.line("")
	w.line("--%s", w.boundary)
	w.line("Content-Description: %s", description)
	w.line("Content-Type: %s", contentType)
	if encoded && w.encoding != "" && w.encoding != "7bit" {
		w.line("Content-Transfer-Encoding: %s", w.encoding)
	}
}

// notification is the part for people.
func (w *writer) notification() {
	charset := w.template.charset
	if strings.EqualFold(charset, "us-ascii") {
		charset = "us-ascii"
		if w.encoding != "" && w.encoding != "7bit" {
			charset = "utf-8"
		}
	}
	w.part("Notification", "text/plain; charset="+charset, true)
	w.line("")
	for _, line := range w.text {
		w.line("%s", line)
	}
	w.each(func(e bouncelog.Entry) {
		w.line("")
		if e.OrigRcpt != "" {
			w.wrapped("<%s> (expanded from <%s>): %s", e.Rcpt, e.OrigRcpt, e.Status.Reason)
		} else {
			w.wrapped("<%s>: %s", e.Rcpt, e.Status.Reason)
		}
	}, "\t--- Delivery report unavailable ---")
}

// each calls f for the recipients of the letter; what can't be read is said once.
func (w *writer) each(f func(e bouncelog.Entry), unavailable string) {
	for e, err := range w.letter.set {
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				w.d.log.Warn("read %s %s: %v", w.d.service, w.ID, err)
			}
			if unavailable != "" {
				w.line("")
				w.line("%s", unavailable)
			}
			return
		}
		if w.letter.wants(e) {
			f(e)
		}
	}
}

// report is the part for programs (RFC 3464, RFC 6533).
func (w *writer) report() {
	contentType := "message/delivery-status"
	if w.utf8 {
		contentType = "message/global-delivery-status"
	}
	w.part("Delivery report", contentType, w.utf8)
	w.line("")
	w.line("Reporting-MTA: dns; %s", w.d.hostname)
	if w.EnvelopeID != "" {
		w.line("Original-Envelope-Id: %s", w.EnvelopeID)
	}
	prefix := "X-" + headerToken(w.d.mailName)
	w.line("%s-Queue-ID: %s", prefix, w.ID)
	if w.orig.file != nil {
		sender := w.senderAddress()
		w.line("%s-Sender: %s; %s", prefix, w.addressType(sender), sender)
	}
	if !w.orig.arrival.IsZero() {
		w.line("Arrival-Date: %s", header.MailDate(w.orig.arrival))
	}
	w.each(func(e bouncelog.Entry) { w.recipient(e, "X-"+headerToken(w.d.mailName)) }, "")
}

// recipient is the group of fields for one recipient.
func (w *writer) recipient(e bouncelog.Entry, prefix string) {
	w.line("")
	w.line("Final-Recipient: %s; %s", w.addressType(e.Rcpt), e.Rcpt)
	switch {
	case e.DSNOrigRcpt != "":
		w.line("Original-Recipient: %s", e.DSNOrigRcpt)
	case e.OrigRcpt != "":
		w.line("Original-Recipient: %s; %s", w.addressType(e.OrigRcpt), e.OrigRcpt)
	}
	action := e.Status.Action
	if w.template.class == "failure" {
		action = "failed"
	}
	w.line("Action: %s", action)
	w.line("Status: %s", e.Status.Code)
	if e.Status.MTAType != "" && e.Status.MTAName != "" {
		w.wrapped("Remote-MTA: %s; %s", e.Status.MTAType, e.Status.MTAName)
	}
	if e.Status.DiagType != "" && e.Status.DiagText != "" {
		w.wrapped("Diagnostic-Code: %s; %s", e.Status.DiagType, e.Status.DiagText)
	} else {
		w.wrapped("Diagnostic-Code: %s; %s", prefix, e.Status.Reason)
	}
	if w.letter.retry && !w.orig.arrival.IsZero() {
		w.line("Will-Retry-Until: %s", header.MailDate(w.orig.arrival.Add(w.d.queueLifetime)))
	}
}

// senderAddress is the envelope sender in external form; the null sender has a
// name.
func (n *notice) senderAddress() string {
	if n.Sender == "" {
		return "MAILER-DAEMON@" + n.d.hostname
	}
	return address.Quote(n.Sender)
}

func (w *writer) addressType(addr string) string {
	if w.SMTPUTF8 != 0 && !ascii(addr) {
		return "utf-8"
	}
	return "rfc822"
}

// headerToken makes a name one that can stand in a header name.
func headerToken(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\".[]", r) {
			return '-'
		}
		return r
	}, name)
}
