package local

import (
	"context"
	"errors"
	"strconv"
	"time"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/header"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/spool/record"
)

// forward is a message that carries the content on to addresses that need one of
// their own: those with one Delivered-To: value and one sender (delivery.md §3.6).
type forward struct {
	delivered, sender string
	session           *cleanup.Session
}

// forwardTo adds the address of s to the message that will be sent on to it.
func (t *task) forwardTo(ctx context.Context, s state) (done bool) {
	if !t.first("forward to", s.rcpt.Address) {
		return true
	}
	if t.probe() {
		return t.sent(ctx, &s, "forwards to "+s.rcpt.Address)
	}
	f, err := t.forward(ctx, &s)
	if err == nil {
		err = f.add(&s)
	}
	if err != nil {
		t.job.Log.Warn("%s: cleanup service: %v", t.job.ID, err)
		return t.failed(ctx, &s, "4.3.0", "unable to forward message")
	}
	return true
}

// forward finds or opens the message for s.
func (t *task) forward(ctx context.Context, s *state) (*forward, error) {
	for _, f := range t.forwards {
		if f.delivered == s.delivered && f.sender == s.message.Sender {
			return f, nil
		}
	}
	session, err := cleanup.FromConfig(t.config).Open(ctx)
	if err != nil {
		return nil, err
	}
	f := &forward{delivered: s.delivered, sender: s.message.Sender, session: session}
	if err := t.envelope(f); err != nil {
		session.Abort()
		return nil, err
	}
	t.forwards = append(t.forwards, f)
	return f, nil
}

// envelope sends what the new message inherits.
func (t *task) envelope(f *forward) error {
	j, now := t.job, time.Now()
	flags := t.forwardFlags
	if j.SMTPUTF8&record.SizeFlagUTF8 != 0 {
		flags |= cleanup.FlagUTF8
	} else {
		flags |= cleanup.AutoUTF8(t.config, cleanup.ClassForward)
	}
	err := f.session.SetFlags(flags)
	if err == nil {
		err = f.session.Printf(record.TypeTime, "%d %d", now.Unix(), now.Nanosecond()/1000)
	}
	if err == nil {
		err = f.session.RecString(record.TypeFrom, f.sender)
	}
	ret := ""
	if j.Ret != 0 {
		ret = strconv.Itoa(int(j.Ret))
	}
	for _, a := range []struct{ name, value string }{
		{"ret_flags", ret},
		{"envelope_id", j.EnvelopeID},
		{"log_client_name", j.ClientName},
		{"log_client_address", j.ClientAddress},
		{"log_protocol_name", j.ClientProtocol},
		{"log_helo_name", j.ClientHelo},
		{"sasl_method", j.SASLMethod},
		{"sasl_username", j.SASLUsername},
		{"sasl_sender", j.SASLSender},
		{"log_ident", j.LogIdent},
		{"rewrite_context", j.RewriteContext},
	} {
		if err == nil && a.value != "" {
			err = f.session.Attr(a.name, a.value)
		}
	}
	return err
}

// add sends one recipient.
func (f *forward) add(s *state) error {
	var err error
	if s.rcpt.DSNOrig != "" {
		err = f.session.Attr("dsn_orig_rcpt", s.rcpt.DSNOrig)
	}
	if err == nil && s.rcpt.Notify != 0 {
		err = f.session.Attr("notify_flags", strconv.Itoa(int(s.rcpt.Notify)))
	}
	if err == nil && s.rcpt.Original != "" {
		err = f.session.RecString(record.TypeOrigRcpt, s.rcpt.Original)
	}
	if err == nil {
		err = f.session.RecString(record.TypeRcpt, s.rcpt.Address)
	}
	return err
}

// finishForwards sends the messages off if all else went well; otherwise the
// whole recipient is tried again, and they with it. top is the recipient's state.
func (t *task) finishForwards(ctx context.Context, top state, send bool) (done bool) {
	done = send
	for _, f := range t.forwards {
		if !send || !t.sendForward(ctx, top, f) {
			f.session.Abort()
			done = false
		}
	}
	return done
}

func (t *task) sendForward(ctx context.Context, top state, f *forward) (done bool) {
	if err := t.forwardContent(f); err != nil {
		if err == mailbox.ErrCorrupt {
			t.corrupt = true
			return false
		}
		var unread *mailbox.StatusError
		if errors.As(err, &unread) {
			t.job.Log.Warn("%s: %v", t.job.ID, err)
			return false
		}
		// cleanup may have answered early: what it says counts.
		t.job.Log.Warn("%s: sending to cleanup service: %v", t.job.ID, err)
	}
	result, err := f.session.Finish()
	if err != nil {
		t.job.Log.Warn("%s: cleanup service: %v", t.job.ID, err)
		return false
	}
	if result.Status != cleanup.OK {
		return false
	}
	top.rcpt.Notify = passOn(top.rcpt.Notify)
	o := t.outcome(&top, forwardedAs(f.session.QueueID))
	return t.job.Report.Sent(ctx, o)
}

func (t *task) forwardContent(f *forward) error {
	id := f.session.QueueID
	lines := []string{
		"Received: by " + t.hostname + " (" + t.mailName + ")",
		"\tid " + id + "; " + header.MailDate(time.Now()),
	}
	if t.prependHeader["forward"] {
		lines = append(lines, "Delivered-To: "+t.fold(f.delivered))
	}
	if err := f.session.Rec(record.TypeMessage, nil); err != nil {
		return err
	}
	for _, l := range lines {
		if err := f.session.RecString(record.TypeNormal, l); err != nil {
			return err
		}
	}
	r, err := t.job.Content()
	if err != nil {
		return mailbox.ReadFailed(err)
	}
	for {
		kind, data, err := mailbox.NextRecord(t.job, r)
		if err != nil {
			return err
		}
		if kind == record.TypeExtracted {
			break
		}
		if err := f.session.Rec(kind, data); err != nil {
			return err
		}
	}
	if err := f.session.Rec(record.TypeExtracted, nil); err != nil {
		return err
	}
	return f.session.Rec(record.TypeEnd, nil)
}
