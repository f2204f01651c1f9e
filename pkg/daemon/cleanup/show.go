package cleanup

import (
	"bytes"
	"fmt"

	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/wire/milter"
)

// showTo shows the message to a Milter as it is in the queue file now: without
// our own Received: header and the line between headers and body.
func (s *session) showTo(c *milter.Content) error {
	scan, err := s.scanHeaders()
	if err != nil {
		return err
	}
	ended := false
	for {
		p, err := scan.next()
		if err != nil {
			return err
		}
		if p == nil {
			break
		}
		if n, _ := header.NameLen(p.text); n == 0 && !ended {
			// A Milter added this. For a reader of the message, the headers
			// end here.
			ended = true
			if err := c.EndOfHeaders(); err != nil {
				return err
			}
		}
		switch {
		case p.own:
		case ended:
			err = c.Body(append(bytes.ReplaceAll(p.text, []byte("\n"), []byte("\r\n")), '\r', '\n'))
		default:
			err = c.Header(splitHeader(p.text))
		}
		if err != nil {
			return err
		}
	}
	if !ended {
		if err := c.EndOfHeaders(); err != nil {
			return err
		}
	}
	return s.showBody(c, !ended)
}

// splitHeader splits a header at its colon.
func splitHeader(text []byte) (name, value string) {
	for i, c := range text {
		if c == ':' {
			return string(text[:i]), string(text[i+1:])
		}
	}
	return string(text), ""
}

// showBody shows the body, without the empty line before it if skip says so.
func (s *session) showBody(c *milter.Content, skip bool) error {
	// Added headers stand at the gap; the body begins behind the last of them.
	r, err := s.fileReader(s.places.header.at)
	if err != nil {
		return err
	}
	first := skip
	for {
		t, data, err := r.Next()
		if err != nil {
			return err
		}
		switch t {
		case record.TypeExtracted:
			return nil
		case record.TypeNormal, record.TypeContinued:
		default:
			return fmt.Errorf("unexpected record type %d in message content", t)
		}
		if first && len(data) == 0 && t == record.TypeNormal {
			first = false
			continue
		}
		first = false
		if t == record.TypeNormal {
			data = append(data, '\r', '\n')
		}
		if err := c.Body(data); err != nil {
			return err
		}
	}
}
