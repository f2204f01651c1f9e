package cleanup

import (
	"errors"
	"strconv"
	"strings"

	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/record"
)

// errEdit says that a change could not be made; the session's status has the
// reason.
var errEdit = errors.New("queue file update error")

// editor changes the queue file as Milters ask (routing.md §1.14). It is the
// milter.Editor of a session.
type editor struct {
	s    *session
	body *bodyEdit
}

func hasName(text []byte, name string) bool {
	return len(text) > len(name) && text[len(name)] == ':' && strings.EqualFold(string(text[:len(name)]), name)
}

// failed turns an error of reading the file back into a status.
func (e *editor) failed(err error) error {
	if !errors.Is(err, errEdit) {
		e.s.writeError(err)
	}
	return errEdit
}

// AddHeader appends a header; value is all that follows the colon.
func (e *editor) AddHeader(name, value string) error {
	s := e.s
	text, ok := s.milterHeader(name, value)
	if !ok {
		return s.edited()
	}
	return s.fill(&s.places.header, func() { s.putHeader(text) })
}

// InsertHeader inserts a header before the index-th of all, from 1; the own
// Received: header counts.
func (e *editor) InsertHeader(index int, name, value string) error {
	s := e.s
	scan, err := s.scanHeaders()
	if err != nil {
		return e.failed(err)
	}
	for n := 1; ; n++ {
		p, err := scan.next()
		if err != nil {
			return e.failed(err)
		}
		if p == nil {
			return e.AddHeader(name, value)
		}
		if n >= index {
			return e.insertBefore(p, name, value)
		}
	}
}

// insertBefore writes the header and a copy of the record whose place the
// pointer to it takes. Where a pointer is that record, it is enough to go
// where that leads.
func (e *editor) insertBefore(p *placed, name, value string) error {
	s := e.s
	text, ok := s.milterHeader(name, value)
	if !ok {
		return s.edited()
	}
	start := s.out.Offset()
	s.putHeader(text)
	if p.pointer != noPlace {
		s.putPointer(p.target)
		return s.point(p.pointer, start)
	}
	s.put(p.first, p.data)
	s.putFiller(record.TypePadding, len(p.data))
	s.putPointer(p.nextRec)
	return s.point(p.at, start)
}

// find looks for the index-th header of a name, from 1; nil if there is none.
func (e *editor) find(index int, name string) (*placed, error) {
	scan, err := e.s.scanHeaders()
	if err != nil {
		return nil, e.failed(err)
	}
	for n := 0; ; {
		p, err := scan.next()
		if err != nil {
			return nil, e.failed(err)
		}
		if p == nil {
			return nil, nil
		}
		if !p.own && hasName(p.text, name) {
			if n++; n >= index {
				return p, nil
			}
		}
	}
}

// ChangeHeader replaces the index-th header of that name, or adds one.
func (e *editor) ChangeHeader(index int, name, value string) error {
	s := e.s
	p, err := e.find(index, name)
	if err != nil {
		return err
	}
	if p == nil {
		return e.AddHeader(name, value)
	}
	text, ok := s.milterHeader(name, value)
	if !ok {
		return s.edited()
	}
	start := s.out.Offset()
	s.putHeader(text)
	s.putPointer(p.end)
	return s.point(p.at, start)
}

// DeleteHeader removes the index-th header of that name, if there is one.
func (e *editor) DeleteHeader(index int, name string) error {
	p, err := e.find(index, name)
	if err != nil || p == nil {
		return err
	}
	return e.s.point(p.at, p.end)
}

// milterAddress is the address a filter means, the first of n, in internal
// form.
func milterAddress(text string) (addr string, n int) {
	address.Parse(text, 0).Addresses(func(words address.List) {
		if n++; n == 1 {
			addr = words.Internal()
		}
	})
	return addr, n
}

const milterSource = "from Milter or header/body_checks"

// AddRecipient adds a recipient; parameters are NOTIFY= and ORCPT=.
func (e *editor) AddRecipient(addr, parameters string) error {
	s := e.s
	r := rcpt{}
	for word := range strings.FieldsSeq(parameters) {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case strings.EqualFold(name, "NOTIFY"):
			n, err := dsn.ParseNotify(value)
			if err != nil || n == 0 {
				s.warn("Bad NOTIFY parameter "+milterSource+": \"%.100s\"", word)
				continue
			}
			r.notify = n
		case strings.EqualFold(name, "ORCPT"):
			kind, enc, ok := strings.Cut(value, ";")
			dec, err := dsn.XtextDecode(enc)
			if !ok || kind == "" || err != nil || dec == "" {
				s.warn("Bad ORCPT parameter "+milterSource+": \"%.100s\"", word)
				continue
			}
			r.orcpt = kind + ";" + dec
		default:
			s.warn("ignoring ESMTP argument "+milterSource+": \"%.100s\"", word)
		}
	}
	internal, n := milterAddress(addr)
	if n > 1 {
		s.warn("Milter or header/body_checks request to add multi-recipient: \"%.100s\"", addr)
	}
	if internal == "" {
		s.warn("ignoring attempt from Milter to add null recipient")
		return s.edited()
	}
	return s.fill(&s.places.recipient, func() {
		r.address = s.canonicalRecipient(internal)
		r.original = r.address
		s.deliverTo(r)
	})
}

// DelRecipient cancels every recipient that was given as addr.
func (e *editor) DelRecipient(addr string) error {
	s := e.s
	internal, _ := milterAddress(addr)
	r, err := s.fileReader(0)
	if err != nil {
		return e.failed(err)
	}
	orig, haveOrig := "", false
	var cancel []int64
	for {
		t, data, err := r.Next()
		if err != nil {
			return e.failed(err)
		}
		switch t {
		case record.TypeMessage:
			// Text is not worth reading; the extracted segment is.
			if err := r.SeekTo(s.places.extracted); err != nil {
				return e.failed(err)
			}
			continue
		case record.TypeOrigRcpt:
			orig, haveOrig = string(data), true
			continue
		case record.TypeRcpt:
			if !haveOrig {
				orig = string(data)
			}
			if orig == internal {
				cancel = append(cancel, r.Offset())
				s.forgetDuplicate(orig, string(data))
			}
		case record.TypeDone, record.TypeCanceled:
		case record.TypeEnd:
			return e.cancel(cancel)
		default:
			continue
		}
		orig, haveOrig = "", false
	}
}

func (e *editor) cancel(places []int64) error {
	for _, at := range places {
		if _, err := e.s.file.WriteAt([]byte{byte(record.TypeCanceled)}, at); err != nil {
			return e.failed(err)
		}
	}
	return e.s.edited()
}

// forgetDuplicate makes a canceled recipient welcome again.
func (s *session) forgetDuplicate(original, addr string) {
	if !s.d.set.origRecipient {
		delete(s.dups, strings.ToLower(addr))
		return
	}
	end := strings.ToLower("\n" + original + "\n" + addr)
	for key := range s.dups {
		if strings.HasSuffix(key, end) {
			delete(s.dups, key)
		}
	}
}

// ChangeSender replaces the envelope sender; parameters are ENVID= and RET=.
func (e *editor) ChangeSender(addr, parameters string) error {
	s := e.s
	start := s.out.Offset()
	for word := range strings.FieldsSeq(parameters) {
		if !e.senderParameter(word) {
			s.d.log.Warn("Ignoring bad ESMTP parameter \"%s\" in SMFI_CHGFROM request", word)
		}
	}
	old := s.places
	internal, _ := milterAddress(addr)
	s.setSender(internal)
	s.putPointer(old.senderNext)
	return s.point(old.sender, start)
}

func (e *editor) senderParameter(word string) bool {
	s := e.s
	name, value, _ := strings.Cut(word, "=")
	switch {
	case strings.EqualFold(name, "RET"):
		r, ok := dsn.ParseRet(value)
		if !ok {
			return false
		}
		s.ret = r
		s.putAttr("ret_flags", strconv.Itoa(int(r)))
	case strings.EqualFold(name, "ENVID"):
		id, err := dsn.XtextDecode(value)
		if err != nil || id == "" || !isPrintable(id) {
			return false
		}
		s.envelopeID = id
		s.putAttr("envelope_id", id)
	default:
		return false
	}
	return true
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
