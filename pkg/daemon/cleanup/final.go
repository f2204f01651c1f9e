package cleanup

import (
	"errors"
	"io"
	"strconv"
	"syscall"

	"posthaste/pkg/ipc/bounce"
	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

func isTooBig(err error) bool { return errors.Is(err, syscall.EFBIG) }

// finish does what is left after the last record (routing.md §1.15) and
// reports whether the message is on stable storage. Only then, or after a
// bounce or discard, is the status 0.
func (s *session) finish() (committed bool) {
	if s.going() && !s.ended {
		s.status |= proto.StatusBad
	}
	if s.flags&proto.FlagDiscard != 0 {
		s.status = proto.OK
	}
	if s.going() {
		s.putSize()
	}
	if s.mustBounce() {
		s.bounceMessage()
	}
	if s.status == proto.OK && s.flags&proto.FlagDiscard == 0 {
		committed = s.commit()
	}
	if !committed {
		s.removeTrace()
	}
	return committed
}

// putSize overwrites the size record.
func (s *session) putSize() {
	if err := s.out.Flush(); err != nil {
		s.writeError(err)
		return
	}
	if err := record.PutAt(s.file, 0, record.TypeSize, s.size.String()); err != nil {
		s.writeError(err)
	}
}

// commit puts the message on stable storage. The queue manager is told after
// the client.
func (s *session) commit() bool {
	hold := s.flags&proto.FlagHold != 0
	if hold {
		if err := s.file.MoveTo(queue.Hold); err != nil {
			s.writeError(err)
			return false
		}
	}
	if err := s.file.Commit(); err != nil {
		s.writeError(err)
		return false
	}
	if hold {
		s.d.held()
		return true
	}
	s.queued = true
	return true
}

func (s *session) removeTrace() {
	if _, err := s.d.removeLog(queue.Trace, s.id); err != nil {
		s.warn("remove trace log: %s", maillog.Errno(err))
	}
}

// mustBounce reports whether cleanup returns the message itself.
func (s *session) mustBounce() bool {
	return s.status != proto.OK && s.flags&proto.FlagBounce != 0 && s.haveSender && s.status&proto.StatusNoBounce == 0
}

// bounceMessage returns the message to its sender (routing.md §1.16). Success
// makes the status 0 and the message discarded.
func (s *session) bounceMessage() {
	d := s.status.Detail()
	code, text := d.DSN, d.Text
	if s.reason != "" {
		code, text = dsn.Split(s.reason, "5.0.0")
	}
	st := dsn.Status{Code: code, Action: "failed", Reason: text}
	err := s.out.Flush()
	if err == nil {
		err = s.bounceRecipients(st)
	}
	if err == nil {
		err = s.flushBounce()
	}
	if err != nil {
		s.warn("bounce message failure")
		s.status = proto.StatusWrite
		return
	}
	s.flags |= proto.FlagDiscard
	s.status = proto.OK
}

func (s *session) flushBounce() error {
	m := bounce.Message{
		Queue: s.file.Queue, ID: s.id, Encoding: s.attrs["encoding"],
		SMTPUTF8: int(s.size.UTF8Flags), Sender: s.sender, EnvelopeID: s.envelopeID, Ret: s.ret,
	}
	if s.status&(proto.StatusContent|proto.StatusSize) != 0 {
		m.Ret = dsn.RetHdrs
	}
	if s.verp != "" && !s.d.set.disableVERP {
		return s.d.bounce.FlushVERP(s.ctx, s.d.set.bounceService, bounce.Clean, m, s.verp)
	}
	return s.d.bounce.Flush(s.ctx, s.d.set.bounceService, bounce.Clean, m)
}

// bounceRecipients logs each recipient that is in the queue file.
func (s *session) bounceRecipients(st dsn.Status) error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := record.NewReader(struct{ io.ReadSeeker }{s.file.File})
	r.Path = s.file.Path()
	var rcpt deliver.Recipient
	found := false
	for {
		t, data, err := r.Next()
		if err != nil {
			break // the end, or where a size limit cut the file off
		}
		if t == record.TypeAttr {
			if name, value, err := record.ParseAttr(data); err == nil {
				switch name {
				case "dsn_orig_rcpt":
					rcpt.DSNOrig = value
				case "notify_flags":
					n, _ := strconv.Atoi(value)
					rcpt.Notify = dsn.Notify(n)
				}
			}
			continue
		}
		switch t {
		case record.TypeOrigRcpt:
			rcpt.Original = string(data)
		case record.TypeRcpt:
			found = true
			rcpt.Address, rcpt.Offset = string(data), r.Offset()
			if err := s.bounceOne(rcpt, st); err != nil {
				return err
			}
			rcpt = deliver.Recipient{}
		}
	}
	if !found {
		return s.bounceOne(deliver.Recipient{Original: "unknown", Address: "unknown", Offset: -1}, st)
	}
	return nil
}

func (s *session) bounceOne(rcpt deliver.Recipient, st dsn.Status) error {
	if err := s.d.bounce.Append(s.ctx, s.d.set.bounceService, s.id, bounce.Clean, rcpt, st); err != nil {
		return err
	}
	delay := deliver.FormatDelay(s.d.now().Sub(s.arrival), 2)
	orig := ""
	if rcpt.Original != "" && rcpt.Original != rcpt.Address {
		orig = ", orig_to=<" + s.show(rcpt.Original) + ">"
	}
	s.info("to=<%s>%s, relay=none, delay=%s, delays=%s/0/0/0, dsn=%s, status=bounced (%s)",
		s.show(rcpt.Address), orig, delay, delay, st.Code, st.Reason)
	return nil
}
