package qshape

import (
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/spool/record"
)

// maxRecord is what three bytes of length can say.
const maxRecord = 1<<21 - 1

// envelope is what is counted of a message.
type envelope struct {
	arrival    time.Time
	sender     string
	recipients []string
}

// read reads the envelope of a complete message; ok is false for anything
// else.
func read(path string) (e envelope, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return e, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || modeBits(info)&0733 != 0700 {
		return e, false
	}
	r := record.NewReader(f)
	r.Max = maxRecord
	p := parser{r: r, mtime: info.ModTime()}
	if !p.start() || !p.envelope('M') || !p.content() || !p.envelope('E') {
		return e, false
	}
	return p.e, p.hasSender && !p.e.arrival.IsZero() && len(p.e.recipients) > 0
}

func modeBits(info fs.FileInfo) fs.FileMode { return info.Mode().Perm() }

type parser struct {
	r         *record.Reader
	mtime     time.Time
	e         envelope
	size      int64 // of the content; 0 is not known
	hasSender bool
}

// start reads the records that tell one kind of file from another: size and
// time in a file of cleanup's; name and sender, without a time, in one that a
// user submitted to an old version.
func (p *parser) start() bool {
	t, data, err := p.r.Next()
	if err != nil {
		return false
	}
	if t == record.TypeSize {
		s, n := record.ParseSize(data)
		if n < 1 || s.ContentSize <= 0 {
			return false
		}
		p.size = s.ContentSize
		t, data, err = p.r.Next()
		return err == nil && t == record.TypeTime && p.time(string(data))
	}
	if t == record.TypeFullName {
		if t, data, err = p.r.Next(); err != nil {
			return false
		}
	}
	if t != record.TypeFrom {
		return false
	}
	p.e.arrival = p.mtime
	p.setSender(string(data))
	return true
}

func (p *parser) time(text string) bool {
	seconds, _, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err == nil && n > 0 {
		p.e.arrival = time.Unix(n, 0)
	}
	return err == nil
}

func (p *parser) setSender(address string) { p.e.sender, p.hasSender = address, true }

// envelope reads records up to one of the type end.
func (p *parser) envelope(end record.Type) bool {
	for {
		t, data, err := p.r.Next()
		if err != nil {
			return false
		}
		switch t {
		case end:
			return true
		case record.TypeFrom:
			p.setSender(string(data))
		case record.TypeRcpt:
			p.e.recipients = append(p.e.recipients, string(data))
		}
	}
}

// content goes on behind the content.
func (p *parser) content() bool {
	if p.size > 0 {
		if p.r.SeekTo(p.r.Tell()+p.size) != nil {
			return false
		}
		t, _, err := p.r.Next()
		return err == nil && t == record.TypeExtracted
	}
	for {
		t, _, err := p.r.Next()
		if err != nil || t == record.TypeExtracted {
			return err == nil
		}
	}
}
