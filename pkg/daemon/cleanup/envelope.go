package cleanup

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/record"
)

// meaning is a record, and what it stands for if it is one of the attributes
// that are record types in disguise.
type meaning struct {
	t, mapped   record.Type
	data        []byte
	name, value string // of an attribute
	content     []byte // data, or the value of a mapped attribute
}

// decode looks into attribute records; ok is false if the record is dealt with.
func (s *session) decode(t record.Type, data []byte) (m meaning, ok bool) {
	m = meaning{t: t, mapped: t, data: data, content: data}
	if t != record.TypeAttr {
		return m, true
	}
	name, value, err := record.ParseAttr(data)
	if err != nil {
		s.bad("malformed attribute: %s: %.100s", err, data)
		return m, false
	}
	if value == "" {
		s.warn("spurious null attribute value for \"%s\" -- ignored", name)
		return m, false
	}
	m.name, m.value = name, value
	if pseudo, found := record.Pseudo(name); found {
		m.mapped, m.content = pseudo, []byte(value)
	}
	return m, true
}

// envelope takes one record of the envelope segment (routing.md §1.3).
func (s *session) envelope(t record.Type, data []byte) {
	switch t {
	case record.TypeFlags:
		s.extraFlags(data)
		return
	case record.TypeMilterCount:
		s.handover(data)
		return
	}
	m, ok := s.decode(t, data)
	if !ok {
		return
	}
	if !m.t.In(record.EnvelopeSet) {
		s.bad("unexpected record type %d in envelope", t)
		return
	}
	if m.mapped.In(record.EnvelopeRcptSet) {
		if !s.inRcpts && !s.firstRecipient() {
			return
		}
	} else if s.inRcpts {
		s.size.Hints |= record.HintMixed
	}
	for i := range handlers {
		if handlers[i].t == m.mapped {
			handlers[i].handle(s, m)
			return
		}
	}
	s.put(t, data)
}

// handlers are for the record types of the envelope that are not simply
// copied.
var handlers = [...]struct {
	t      record.Type
	handle func(s *session, m meaning)
}{
	{record.TypeSize, (*session).ignore},
	{record.TypeCreateTime, (*session).ignore},
	{record.TypeTime, (*session).timeRecord},
	{record.TypeFullName, (*session).fullNameRecord},
	{record.TypeFrom, (*session).senderRecord},
	{record.TypeOrigRcpt, (*session).origRcptRecord},
	{record.TypeDSNOrigRcpt, (*session).dsnOrcptRecord},
	{record.TypeDSNNotify, (*session).notifyRecord},
	{record.TypeDSNEnvID, (*session).envelopeIDRecord},
	{record.TypeDSNRet, (*session).retRecord},
	{record.TypeRcpt, (*session).recipientRecord},
	{record.TypeDone, (*session).goneRecord},
	{record.TypeCanceled, (*session).goneRecord},
	{record.TypeWarn, (*session).warnRecord},
	{record.TypeVERP, (*session).verpRecord},
	{record.TypeAttr, (*session).attrRecord},
	{record.TypeMessage, (*session).messageRecord},
}

func (s *session) ignore(meaning)     {}
func (s *session) goneRecord(meaning) { s.forgetRecipient() }

// firstRecipient is called once, when the part of the envelope ends that must
// know sender and time.
func (s *session) firstRecipient() bool {
	if !s.haveSender {
		s.bad("missing sender envelope record")
		return false
	}
	if !s.haveTime {
		s.bad("missing time envelope record")
		return false
	}
	s.inRcpts = true
	if !s.warned && s.sender != "" && s.d.set.delayWarning > 0 {
		s.warned = true
		s.putString(record.TypeWarn, fmt.Sprintf("%15d", s.arrival.Add(s.d.set.delayWarning).Unix()))
	}
	s.emulateStart()
	return s.going()
}

func (s *session) extraFlags(data []byte) {
	v, err := strconv.ParseInt(string(data), 10, 32)
	extra := proto.Flags(v)
	if err != nil || extra&^proto.FlagsExtra != 0 {
		s.warn("ignoring bad extra flags: 0x%x", uint32(extra))
		return
	}
	s.flags |= extra
}

func (s *session) timeRecord(m meaning) {
	if !s.haveTime {
		var sec, usec int64
		if n, _ := fmt.Sscanf(string(m.data), "%d %d", &sec, &usec); n > 0 {
			s.arrival, s.haveTime = time.Unix(sec, usec*1000), true
			s.put(m.t, m.data)
		}
	}
	s.putAttr("create_time", strconv.FormatInt(s.d.now().Unix(), 10))
}

func (s *session) fullNameRecord(m meaning) {
	if s.haveFullName {
		return
	}
	s.haveFullName, s.fullName = true, string(m.data)
	s.put(m.t, m.data)
}

func (s *session) senderRecord(m meaning) {
	if s.haveSender {
		s.bad("multiple envelope sender records")
		return
	}
	s.setSender(string(m.data))
}

func (s *session) origRcptRecord(m meaning) { s.origRcpt, s.haveOrig = string(m.data), true }
func (s *session) dsnOrcptRecord(m meaning) { s.dsnOrcpt = string(m.content) }

func (s *session) notifyRecord(m meaning) {
	n, err := strconv.Atoi(string(m.content))
	if err != nil || !dsn.Notify(n).Valid() {
		s.warn("ignoring malformed DSN notify record <%.200s>", m.data)
		return
	}
	s.notify = dsn.Notify(n)
	s.size.Hints |= int64(n) << 1
}

func (s *session) forgetRecipient() {
	s.origRcpt, s.haveOrig, s.dsnOrcpt, s.notify = "", false, "", 0
}

func (s *session) envelopeIDRecord(m meaning) {
	for _, c := range m.content {
		if c < ' ' || c >= 0x7f {
			s.bad("bad DSN envelope ID record")
			return
		}
	}
	s.envelopeID = string(m.content)
	s.put(m.t, m.data)
}

func (s *session) retRecord(m meaning) {
	n, err := strconv.Atoi(string(m.content))
	if r := dsn.Ret(n); err != nil || r != dsn.RetFull && r != dsn.RetHdrs {
		s.bad("bad DSN RET record <%.200s>", m.data)
		return
	}
	s.ret = dsn.Ret(n)
	s.put(m.t, m.data)
}

func (s *session) warnRecord(m meaning) {
	if s.warned {
		return
	}
	s.warned = true
	s.put(m.t, m.data)
}

func (s *session) verpRecord(m meaning) {
	switch {
	case s.sender == "":
		s.warn("ignoring VERP request for null sender")
	case len(m.data) != 2 || !strings.Contains(s.d.set.verpFilter, string(m.data[:1])) || !strings.Contains(s.d.set.verpFilter, string(m.data[1:])):
		s.warn("ignoring bad VERP request: \"%.100s\"", m.data)
	case s.verp == "":
		s.verp = string(m.data)
		s.put(m.t, m.data)
	}
}

func (s *session) attrRecord(m meaning) {
	switch m.name {
	case "rewrite_context":
		if m.value != "local" && m.value != "remote" {
			s.bad("bad rewriting context: %.100s", m.value)
			return
		}
		s.remoteRules = m.value == "remote"
	case "trace_flags":
		n, err := strconv.ParseUint(m.value, 10, 31)
		if err != nil {
			s.bad("bad TFLAG record <%.200s>", m.data)
			return
		}
		s.traceFlags = int(n)
	}
	if !s.setAttr(m.name, m.value) {
		return
	}
	s.put(m.t, m.data)
}

// setAttr remembers an attribute, within queue_file_attribute_count_limit.
func (s *session) setAttr(name, value string) bool {
	if s.attrs == nil {
		s.attrs = make(map[string]string, 32)
	}
	if _, known := s.attrs[name]; !known && len(s.attrs) >= s.d.set.attrLimit {
		s.bad("attribute count exceeds limit %d", s.d.set.attrLimit)
		return false
	}
	s.attrs[name] = value
	return true
}

func (s *session) messageRecord(m meaning) {
	s.putGap(&s.places.recipient)
	s.put(m.t, m.data)
	s.startContent()
}
