package cleanup

import (
	"bytes"
	"unicode/utf8"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
)

// primaryHeader handles a known header of the message itself (routing.md
// §1.10).
func (s *session) primaryHeader(known *header.Known, text []byte, nameLen int, drop bool) {
	s.seen[known.ID] = true
	if known.Flags&header.Resent != 0 {
		s.resent = true
	}
	value := bytes.TrimLeft(text[nameLen+1:], " \t\r\n\v\f")
	switch known.ID {
	case header.MessageID:
		s.info("message-id=%s", value)
	case header.ResentMessageID:
		s.info("resent-message-id=%s", value)
	case header.Received:
		if s.hops >= s.d.set.hopLimit {
			s.tooManyHops()
		}
	}
	if known.Flags&(header.Sender|header.Recipient) != 0 && s.rewritesHeaders() {
		text = s.rewriteHeader(known, text, nameLen)
	}
	if !drop {
		s.putHeader(text)
	}
}

func (s *session) tooManyHops() {
	s.warn("message rejected: hopcount exceeded")
	s.status |= proto.StatusHops
}

// rewritesHeaders reports whether the header rewrite context is not "none".
func (s *session) rewritesHeaders() bool { return !s.remoteRules || s.d.set.remoteDomain != "" }

func (s *session) rule() string {
	if s.remoteRules {
		return rewrite.Remote
	}
	return rewrite.Local
}

// rewriteHeader rewrites the addresses of a header. Unless one changes, text
// is returned as it is, folding and all.
func (s *session) rewriteHeader(known *header.Known, text []byte, nameLen int) []byte {
	list := address.Parse(string(text[nameLen+1:]), s.d.set.tokenLimit)
	changed := false
	for i := range list {
		if list[i].Kind == address.Address && s.rewriteHeaderAddress(&list[i], known.Flags) {
			changed = true
		}
	}
	if !changed {
		return text
	}
	list = s.stripComments(list)
	s.lookup = append(append(s.lookup[:0], text[:nameLen+1]...), ' ')
	s.lookup = list.AppendExternal(s.lookup, header.FoldMark)
	s.line = header.AppendFolded(s.line[:0], s.lookup)
	return s.line
}

func (s *session) rewriteHeaderAddress(t *address.Token, kind header.Flags) bool {
	before := t.Tokens.String()
	ext := s.rewriteExternal(s.rule(), before)
	if s.flags&proto.FlagMap != 0 {
		ext = s.mapHeaderAddress(ext, kind)
	}
	if ext == before {
		return false
	}
	t.Tokens = address.Scan(ext, 0)
	return true
}

func (s *session) mapHeaderAddress(ext string, kind header.Flags) string {
	set, m := s.d.set, &s.d.maps
	class, own, ownClasses := headerSender, m.senderCanonical, set.senderCanonicalClasses
	if kind&header.Recipient != 0 {
		class, own, ownClasses = headerRecipient, m.recipientCanonical, set.recipientCanonicalClasses
	}
	addr := ext
	if !own.Empty() && ownClasses&class != 0 || !m.canonical.Empty() && set.canonicalClasses&class != 0 {
		addr = address.Unquote(ext)
		start := addr
		if ownClasses&class != 0 {
			addr = s.mapOne(addr, own)
		}
		if set.canonicalClasses&class != 0 {
			addr = s.mapOne(addr, m.canonical)
		}
		if addr == start {
			addr = ext
		} else {
			addr = address.Quote(addr)
		}
	}
	if set.masqueradeClasses&class != 0 {
		addr = s.masqueradeExternal(addr)
	}
	return addr
}

// maxComment is how much other text a list element with an address may carry
// when its header is generated anew.
const maxComment = 250

// stripComments replaces elements that carry too much text by their address.
func (s *session) stripComments(list address.List) address.List {
	var out address.List
	start := 0
	for i := 0; i <= len(list); i++ {
		if i < len(list) && !list[i].Is(',') {
			continue
		}
		out = append(out, s.stripElement(list[start:i])...)
		if i < len(list) {
			out = append(out, list[i])
		}
		start = i + 1
	}
	return out
}

func (s *session) stripElement(element address.List) address.List {
	other := 0
	var addr *address.Token
	for i := range element {
		switch element[i].Kind {
		case address.Address:
			addr = &element[i]
		case address.Operator, address.Group:
			other++
		default:
			other += len(element[i].Text) + 1
		}
	}
	if addr == nil || other <= maxComment {
		return element
	}
	s.d.log.Warn("stripping too many comments from address: %.100s...", element.String())
	open, shut := address.Token{Kind: address.Operator, Text: "<"}, address.Token{Kind: address.Operator, Text: ">"}
	return address.List{open, *addr, shut}
}

// putHeader writes a header, its lines separated by \n (routing.md §1.10,
// "Writing a header").
func (s *session) putHeader(text []byte) {
	if s.d.set.smtputf8 && has8bit(text) {
		s.size.UTF8Flags |= record.SizeFlagHeader
		s.autoUTF8()
	}
	s.putLines(text)
}

// putLines is putHeader for generated headers, which do not count as evidence
// for SMTPUTF8.
func (s *session) putLines(text []byte) {
	limit := s.headerLimit()
	for start := 0; start < len(text); {
		end := len(text)
		if i := bytes.IndexByte(text[start:], '\n'); i >= 0 {
			end = start + i
		}
		line := text[start:end]
		if end > limit {
			if start > limit/10*9 {
				return
			}
			line, end = text[start:limit], len(text)
		}
		if start > 0 && len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
			line = append([]byte{'\t'}, line...)
		}
		s.putText(true, line)
		if start == 0 {
			s.putFiller(record.TypePadding, len(line))
		}
		start = end + 1
	}
}

func has8bit(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}
