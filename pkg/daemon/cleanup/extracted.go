package cleanup

import (
	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/spool/record"
)

// extracted takes one record of the segment behind the content (routing.md
// §1.12).
func (s *session) extracted(t record.Type, data []byte) {
	if t == record.TypeFlags {
		s.extraFlags(data)
		return
	}
	m, ok := s.decode(t, data)
	if !ok {
		return
	}
	if !m.t.In(record.ExtractedSet) {
		s.bad("unexpected record type %d in extracted envelope", t)
		return
	}
	if m.mapped.In(record.ExtractedRcptSet) && !s.inRcpts {
		s.inRcpts = true
		s.putMeta()
	} else if s.inRcpts && !m.mapped.In(record.ExtractedRcptSet) {
		s.size.Hints |= record.HintMixed
	}
	switch m.mapped {
	case record.TypeEnd:
		s.end(data)
	case record.TypeRcpt:
		s.recipientRecord(m)
	case record.TypeOrigRcpt:
		s.origRcptRecord(m)
	case record.TypeDSNOrigRcpt:
		s.dsnOrcptRecord(m)
	case record.TypeDSNNotify:
		s.notifyRecord(m)
	case record.TypeDone, record.TypeCanceled:
		s.forgetRecipient()
	default:
		s.put(t, data)
	}
}

// putMeta writes what the content said about delivery.
func (s *session) putMeta() {
	if s.filter != "" {
		s.putString(record.TypeFilter, s.filter)
	}
	if s.redirect != "" {
		s.putString(record.TypeRedirect, s.redirect)
	}
	if e := s.attrs["encoding"]; e != "" {
		s.putAttr("encoding", e)
	}
	s.filterPut, s.redirectPut = s.filter, s.redirect
	s.putGap(&s.places.meta)
}

// end handles the E record: the last recipients, then the record itself.
func (s *session) end(data []byte) {
	s.ended = true
	if s.flags&proto.FlagBCC != 0 && s.haveRcpt && s.d.set.alwaysBCC != "" {
		s.addBCC(s.d.set.alwaysBCC)
	}
	for _, addr := range s.checkBCC {
		s.addBCC(addr)
	}
	s.bccPut = len(s.checkBCC)
	if !s.haveRcpt && s.going() {
		s.status |= proto.StatusRcpt
	}
	s.put(record.TypeEnd, data)
}
