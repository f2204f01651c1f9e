package smtp

import (
	"bytes"
	"io"
)

// BareNewline is what a reader of message content does about lines that end
// in LF without CR (spec smtpd.md §1.6; the "SMTP smuggling" defence).
type BareNewline byte

const (
	BareAllow     BareNewline = iota // LF is a line end like CR LF, "." may end the content anywhere
	BareNormalize                    // LF is a line end, but "." ends the content only as CR LF . CR LF
	BareReject                       // as BareNormalize; the reader remembers that it saw one
)

// Ending says how lines end under that policy.
func (b BareNewline) Ending() Ending {
	if b == BareAllow {
		return AnyCRs
	}
	return OneCR
}

// DataReader reads the content after DATA line by line, takes the dots away
// and finds its end.
type DataReader struct {
	SawBare bool // a line ended in a bare LF
	conn    *Conn
	policy  BareNewline
	limit   int
	keepDot bool
	prev    Line // how the previous piece ended
}

// NewDataReader returns a reader of the content that follows on c; lines
// longer than limit come in pieces. With keepDot set stuffed dots stay.
func NewDataReader(c *Conn, limit int, policy BareNewline, keepDot bool) *DataReader {
	return &DataReader{conn: c, policy: policy, limit: limit, keepDot: keepDot}
}

// Next returns the next line or piece of one, valid until the next call, and
// io.EOF after the end of the content. A peer that goes away before it yields
// io.ErrUnexpectedEOF.
func (d *DataReader) Next() (Line, error) {
	for {
		first := !d.prev.Long
		prevBare := first && d.prev.Bare
		l, err := d.conn.ReadPiece(d.limit, d.policy.Ending())
		if err == io.EOF {
			return Line{}, io.ErrUnexpectedEOF
		}
		if err != nil {
			return Line{}, err
		}
		d.prev = Line{Long: l.Long, Bare: l.Bare && !l.Long}
		if d.prev.Bare {
			d.SawBare = true
		}
		if !first || len(l.Text) == 0 || l.Text[0] != '.' {
			return l, nil
		}
		lone := len(l.Text) == 1 && !l.Long
		switch {
		case lone && d.policy != BareAllow && (prevBare || l.Bare):
			continue // dropped
		case lone:
			return Line{}, io.EOF
		case !d.keepDot:
			l.Text = l.Text[1:]
		}
		return l, nil
	}
}

// DotWriter writes message content to a Conn: CR LF line ends, dots doubled
// at the beginning of a line, and the end mark.
type DotWriter struct {
	conn    *Conn
	midLine bool
}

// NewDotWriter returns a writer of content on c.
func NewDotWriter(c *Conn) *DotWriter { return &DotWriter{conn: c} }

// WriteLine writes a line, or with more set a piece of one: the next call
// goes on in that line.
func (d *DotWriter) WriteLine(text []byte, more bool) error {
	if !d.midLine && bytes.HasPrefix(text, []byte{'.'}) {
		d.conn.Write([]byte{'.'})
	}
	_, err := d.conn.Write(text)
	d.midLine = more
	if !more {
		_, err = d.conn.Write(crlf)
	}
	return err
}

// Close ends an unfinished line and writes the end mark; it does not flush.
func (d *DotWriter) Close() error {
	if d.midLine {
		d.conn.Write(crlf)
		d.midLine = false
	}
	_, err := d.conn.Write([]byte(".\r\n"))
	return err
}

var crlf = []byte("\r\n")
