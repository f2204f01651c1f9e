package cleanup

import (
	"bytes"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/spool/record"
)

// startContent is called after the M record.
func (s *session) startContent() {
	s.size.DataOffset = s.out.Offset()
	o := s.d.set.mime
	if s.flags&proto.FlagFilter == 0 {
		o.Report = 0
	}
	o.HeaderSizeLimit = s.headerLimit()
	s.machine = mime.New(s, o)
	s.segment = (*session).content
	s.inRcpts = false
}

// content takes one record of the message itself (routing.md §1.8).
func (s *session) content(t record.Type, data []byte) {
	switch t {
	case record.TypeNormal, record.TypeContinued:
		if s.condition(&data) {
			s.machine.Record(t == record.TypeNormal, data)
		}
	case record.TypeExtracted:
		s.endContent(data)
	default:
		s.d.log.Warn("cleanup_message_headerbody: message rejected: unexpected record type %d in message content", t)
		s.status |= proto.StatusBad
	}
}

// condition cleans one record; false drops it.
func (s *session) condition(data *[]byte) bool {
	set := s.d.set
	if set.replaceCRLF {
		for _, c := range [...]byte{'\r', '\n'} {
			for i := bytes.IndexByte(*data, c); i >= 0; i = bytes.IndexByte(*data, c) {
				(*data)[i] = ' '
			}
		}
	}
	if s.flags&proto.FlagFilter == 0 {
		return true
	}
	if set.rejectChars != nil && set.rejectChars.in(*data) {
		s.act("content", *data, "message_reject_characters", "REJECT disallowed character")
		return false
	}
	if set.stripChars != nil && set.stripChars.in(*data) {
		kept := (*data)[:0]
		for _, c := range *data {
			if !set.stripChars[c] {
				kept = append(kept, c)
			}
		}
		*data = kept
	}
	return true
}

func (b *byteSet) in(data []byte) bool {
	for _, c := range data {
		if b[c] {
			return true
		}
	}
	return false
}

// endContent is called for the X record.
func (s *session) endContent(data []byte) {
	s.machine.End()
	if p := s.machine.Found(); p != 0 {
		s.status |= proto.StatusContent
		s.setReason(mime.ProblemStatus + " " + p.Text())
	}
	if !s.going() {
		return
	}
	s.places.body(s)
	s.size.ContentSize = s.out.Offset() - s.size.DataOffset
	s.size.ContentLength = s.size.ContentSize
	s.places.extracted = s.out.Offset()
	s.put(record.TypeExtracted, data)
	s.segment = (*session).extracted
	s.inRcpts = false
}

// Body is called by the MIME machine with each body record.
func (s *session) Body(full bool, data []byte, offset int64) {
	if !s.going() {
		return
	}
	if s.flags&proto.FlagFilter != 0 && len(data) > 0 && !s.d.maps.bodyChecks.Empty() {
		if limit := s.d.set.bodyCheckLimit; limit <= 0 || offset < limit {
			var keep bool
			if data, keep = s.checkBody(data); !keep {
				return
			}
		}
	}
	s.putText(full, data)
}

// putText writes text as one record, or several if it is longer than
// line_length_limit.
func (s *session) putText(full bool, data []byte) {
	for limit := s.d.set.lineLimit; len(data) > limit; data = data[limit:] {
		s.put(record.TypeContinued, data[:limit])
	}
	if full {
		s.put(record.TypeNormal, data)
	} else {
		s.put(record.TypeContinued, data)
	}
}

// Problem is called by the MIME machine (routing.md §1.8). The status follows
// at the end of the content.
func (s *session) Problem(p mime.Problem, text []byte) {
	recipient := "unknown"
	if s.haveRcpt {
		recipient = s.recipient
	}
	s.info("reject: mime-error %s: %.100s from %s; from=<%s> to=<%s>", p.Text(), text, s.origin(), s.show(s.sender), s.show(recipient))
}

// origin says where the message came from, for log lines.
func (s *session) origin() string {
	if o := s.attrs["log_message_origin"]; o != "" {
		return o
	}
	return "local"
}

// Header is called by the MIME machine with each logical header.
func (s *session) Header(class mime.Class, known *header.Known, text []byte, nameLen int) {
	if !s.going() {
		return
	}
	if known != nil && known.ID == header.Received {
		s.received = true
		s.hops++
	}
	if s.flags&proto.FlagFilter != 0 {
		if m := s.checksFor(class, known); !m.Empty() {
			var keep bool
			if text, keep = s.checkHeader(text, m); !keep {
				return
			}
			nameLen, _ = header.NameLen(text)
			known = header.Lookup(text[:nameLen])
		}
	}
	if known != nil && known.ID == header.ContentTransferEncoding && s.d.set.detect8bit {
		s.detectEncoding(text[nameLen+1:])
	}
	isMIME := known != nil && known.Flags&header.MIME != 0
	if class != mime.Primary || isMIME {
		s.putHeader(text)
		return
	}
	drop := s.d.set.dropHeaders.Has(text[:nameLen])
	if known != nil {
		s.primaryHeader(known, text, nameLen, drop)
	} else if !drop {
		s.putHeader(text)
	}
}

// detectEncoding sets the message's encoding from a header value.
func (s *session) detectEncoding(value []byte) {
	value = bytes.TrimLeft(value, " \t\r\n\v\f")
	if bytes.EqualFold(value, []byte("8bit")) || bytes.EqualFold(value, []byte("binary")) {
		s.setAttr("encoding", "8bit")
	}
}
