package postcat

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"

	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// part is where in a message the reader is.
type part int

const (
	inEnvelope part = iota // extracted records, too
	inHeader
	inBody
)

// printer shows one file after another.
type printer struct {
	options
	out *bufio.Writer
	log *maillog.Logger

	r        *record.Reader
	path     string
	part     part
	previous record.Type
	size     record.SizeRecord
	sized    bool // size is known
}

func (p *printer) stdin(in io.Reader) error {
	if n, err := io.CopyN(io.Discard, in, p.start); err != nil {
		return fmt.Errorf("stdin: skip %d bytes failed after %d", p.start, n)
	}
	return p.file(in, "stdin")
}

// file shows one file from its present position on.
func (p *printer) file(in io.Reader, path string) error {
	if _, ok := in.(io.Seeker); !ok {
		in = bufio.NewReader(in)
	}
	p.r = record.NewReader(in)
	p.r.Path, p.r.Raw = path, p.verbose
	p.path, p.part, p.previous, p.sized = path, inEnvelope, 0, false
	for first := true; ; first = false {
		t, data, err := p.r.Next()
		if first && p.start == 0 {
			if err == io.EOF {
				return nil
			}
			if !t.In(record.EnvelopeSet) {
				p.log.Warn("%s: input is not a valid queue file", path)
				return nil
			}
			if p.envelope {
				fmt.Fprintf(p.out, "*** ENVELOPE RECORDS %s ***\n", path)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			p.out.Flush()
			if _, damage := err.(*record.Error); damage {
				p.log.Warn("%v", err)
			}
			return fmt.Errorf("record read error")
		}
		done, err := p.record(t, data)
		if done || err != nil {
			return err
		}
		p.previous = t
	}
}

// record shows one record, if it is to be shown, and moves on.
func (p *printer) record(t record.Type, data []byte) (done bool, err error) {
	switch t {
	case record.TypeMessage:
		p.order(inEnvelope, "message content")
		p.marker(t, "MESSAGE CONTENTS")
		p.part = inHeader
		if p.sized && !p.header && !p.body {
			return false, p.seek(p.size.DataOffset + p.size.ContentSize)
		}
		return false, nil
	case record.TypeExtracted:
		if p.part == inEnvelope {
			p.disorder("extracted segment")
		}
		if !p.envelope {
			return true, nil
		}
		if p.showText() && p.previous == record.TypeContinued && !p.offsets && !p.verbose {
			p.out.WriteByte('\n')
		}
		p.marker(t, "HEADER EXTRACTED")
		p.part = inEnvelope
		return false, nil
	case record.TypeEnd:
		p.order(inEnvelope, "message end")
		p.marker(t, "MESSAGE FILE END")
		return p.verbose && !p.raw, nil
	case record.TypeSize:
		return false, p.sizeRecord(t, data)
	case record.TypePointer:
		p.show(t, data)
		if p.raw {
			return false, nil
		}
		if p.r.FollowPointer(data) != nil {
			return false, fmt.Errorf("bad pointer record, or input is not seekable")
		}
		return false, nil
	case record.TypeNormal, record.TypeContinued:
		if p.part == inHeader && p.previous != record.TypeContinued && !isHeaderLine(data) {
			p.part = inBody
		}
	}
	p.show(t, data)
	return false, nil
}

func isHeaderLine(line []byte) bool {
	n, _ := header.NameLen(line)
	return n > 0 || len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
}

func (p *printer) order(want part, what string) {
	if p.part != want {
		p.disorder(what)
	}
}

func (p *printer) disorder(what string) {
	p.out.Flush()
	p.log.Warn("%s: out-of-order %s marker", p.path, what)
}

func (p *printer) marker(t record.Type, text string) {
	if p.envelope {
		p.prefix(t)
		fmt.Fprintf(p.out, "*** %s %s ***\n", text, p.path)
	}
}

func (p *printer) prefix(t record.Type) {
	if p.offsets {
		fmt.Fprintf(p.out, "%9d ", p.r.Start())
	}
	if p.types {
		fmt.Fprintf(p.out, "%3d ", t)
	}
}

// showText tells whether the part of the message we are in is to be shown.
func (p *printer) showText() bool {
	return [...]bool{inEnvelope: p.envelope, inHeader: p.header, inBody: p.body}[p.part]
}

// sizeRecord takes the way around an envelope that nobody wants to see: the
// content of a file with a damaged envelope can be had in this way.
func (p *printer) sizeRecord(t record.Type, data []byte) error {
	p.show(t, data)
	if p.sized {
		p.out.Flush()
		p.log.Warn("file contains multiple size records")
		return nil
	}
	data, _, _ = bytes.Cut(data, []byte{0})
	s, n := record.ParseSize(data)
	if n >= 2 && s.ContentSize == 0 && s.DataOffset == 0 {
		return nil // an unfinished file
	}
	if n < 2 || s.ContentSize <= 0 || s.DataOffset <= 0 {
		p.out.Flush()
		p.log.Warn("invalid size record: %.100s", data)
		return nil
	}
	p.size, p.sized = s, true
	if p.envelope {
		return nil
	}
	p.part = inHeader
	return p.seek(s.DataOffset)
}

func (p *printer) seek(offset int64) error {
	if err := p.r.SeekTo(offset); err != nil {
		return fmt.Errorf("seek error: %w", maillog.Errno(err))
	}
	return nil
}

func (p *printer) show(t record.Type, data []byte) {
	if !p.showText() {
		return
	}
	if t != record.TypeNormal && t != record.TypeContinued {
		data, _, _ = bytes.Cut(data, []byte{0}) // nothing but text may hold NUL
	}
	switch t {
	case record.TypeAttr:
		p.attribute(t, data)
	case record.TypeTime, record.TypeWarn:
		p.prefix(t)
		fmt.Fprintf(p.out, "%s: %s\n", t, date(data))
	case record.TypeNormal:
		p.text(t, data, true)
	case record.TypeContinued:
		if p.part == inEnvelope {
			p.prefix(t)
			fmt.Fprintf(p.out, "%s: %s\n", t, data)
		} else {
			p.text(t, data, p.offsets || p.verbose)
		}
	default:
		p.prefix(t)
		fmt.Fprintf(p.out, "%s: %s\n", t, data)
	}
}

func (p *printer) text(t record.Type, data []byte, newline bool) {
	p.prefix(t)
	if p.verbose {
		name := t.String()
		if t == record.TypeContinued {
			name = "unterminated_text"
		}
		p.out.WriteString(name + ": ")
	}
	p.out.Write(data)
	if newline {
		p.out.WriteByte('\n')
	}
}

func (p *printer) attribute(t record.Type, data []byte) {
	name, value, err := record.ParseAttr(data)
	if err != nil {
		p.out.Flush()
		p.log.Warn("%s: malformed attribute: %v: %.100s", p.path, err, data)
		return
	}
	p.prefix(t)
	if name == "create_time" {
		fmt.Fprintf(p.out, "%s: %s\n", name, date([]byte(value)))
	} else {
		fmt.Fprintf(p.out, "%s: %s=%s\n", t, name, value)
	}
}

// date shows the seconds at the head of data as asctime(3) does.
func date(data []byte) string {
	i := 0
	for i < len(data) && data[i] == ' ' {
		i++
	}
	end := i
	for end < len(data) && (data[end] >= '0' && data[end] <= '9' || end == i && data[end] == '-') {
		end++
	}
	seconds, _ := strconv.ParseInt(string(data[i:end]), 10, 64)
	return time.Unix(seconds, 0).Format(time.ANSIC)
}
