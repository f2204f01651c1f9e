package sendmail

import (
	"bytes"
	"errors"
	"fmt"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
)

// lineEndings removes carriage returns before newlines as
// sendmail_fix_line_endings says: always, never, or strict: as the first line
// has or has not one.
type lineEndings struct {
	decided bool
	strip   bool
}

func newLineEndings(how string) (*lineEndings, error) {
	switch how {
	case "always":
		return &lineEndings{decided: true, strip: true}, nil
	case "never":
		return &lineEndings{decided: true}, nil
	case "strict":
		return &lineEndings{}, nil
	}
	return nil, fmt.Errorf("invalid sendmail_fix_line_endings value: %s", how)
}

func (l *lineEndings) fix(line []byte) []byte {
	if !l.decided {
		l.decided, l.strip = true, bytes.HasSuffix(line, []byte("\r"))
	}
	if l.strip {
		return bytes.TrimRight(line, "\r")
	}
	return line
}

var errHeaderLength = errors.New("unable to extract recipients: message header length exceeds safety limit")

// recipients finds the recipients in a message's headers (-t): those of the
// Resent- headers if there are any.
type recipients struct {
	machine       *mime.Machine
	regular       []string
	resent        []string
	sawResent     bool
	sizeLimit     int
	headerTooLong bool
}

func newRecipients(c *conf.Config) *recipients {
	r := &recipients{sizeLimit: c.Int("header_size_limit")}
	r.machine = mime.New(r, mime.Options{
		HeaderSizeLimit: r.sizeLimit, NestingLimit: c.Int("mime_nesting_limit"),
		BoundaryLimit: c.Int("mime_boundary_length_limit"), Report: mime.LongHeader,
	})
	return r
}

// line takes one record of content.
func (r *recipients) line(full bool, data []byte) error {
	r.machine.Record(full, data)
	if r.headerTooLong {
		return errHeaderLength
	}
	return nil
}

// end returns what was found.
func (r *recipients) end() []string {
	r.machine.End()
	if r.sawResent {
		return r.resent
	}
	return r.regular
}

// Header collects the addresses of one header.
func (r *recipients) Header(class mime.Class, known *header.Known, text []byte, nameLen int) {
	if class != mime.Primary || known == nil || known.Flags&header.Extract == 0 {
		return
	}
	list := address.ExtractAddrs(string(text[nameLen+1:]))
	if known.Flags&header.Resent != 0 {
		r.sawResent = true
		r.resent = append(r.resent, list...)
	} else if !r.sawResent {
		r.regular = append(r.regular, list...)
	}
}

// HeaderEnd ends the primary headers.
func (r *recipients) HeaderEnd() {}

// Body is of no interest.
func (r *recipients) Body(bool, []byte, int64) {}

// Problem notes a header that is too long to be believed.
func (r *recipients) Problem(p mime.Problem, _ []byte) {
	r.headerTooLong = r.headerTooLong || p == mime.LongHeader
}
