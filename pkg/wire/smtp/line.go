package smtp

import "bytes"

// Line is a line of input, or a piece of one.
type Line struct {
	Text []byte // without its ending; valid until the next read
	Bare bool   // it ended in LF without CR
	// Long says that the line was longer than the limit: Text is its
	// beginning (ReadLine has thrown the rest away, ReadPiece returns it
	// next).
	Long bool
}

// Ending is how many carriage returns before the line feed belong to the end
// of a line.
type Ending byte

const (
	OneCR  Ending = iota // exactly one: CR CR LF leaves a CR in the text
	AnyCRs               // all of them
)

// ReadLine reads a line of at most limit bytes. The rest of a longer one is
// read and thrown away. A connection that ends within a line yields io.EOF.
func (c *Conn) ReadLine(limit int, ending Ending) (Line, error) {
	l, err := c.readPiece(limit, ending)
	if err != nil || !l.Long {
		return l, err
	}
	l.Text = bytes.Clone(l.Text)
	for {
		rest, err := c.readPiece(limit, ending)
		if err != nil {
			return Line{}, err
		}
		if !rest.Long {
			l.Bare = rest.Bare
			return l, nil
		}
	}
}

// ReadPiece reads a line, or limit bytes of a longer one with Long set; then
// the next call goes on in that line.
func (c *Conn) ReadPiece(limit int, ending Ending) (Line, error) {
	return c.readPiece(limit, ending)
}

// readPiece works in the connection's buffer when the limit fits into it.
func (c *Conn) readPiece(limit int, ending Ending) (Line, error) {
	var long []byte // what did not fit into the buffer
	scanned := 0
	for {
		in := c.in[c.r:c.w]
		have := len(long) + len(in)
		if i := bytes.IndexByte(in[scanned:], '\n'); i >= 0 && fits(long, in[:scanned+i], limit) {
			text := in[:scanned+i]
			c.r += scanned + i + 1
			if long != nil {
				text = append(long, text...)
			}
			return endLine(text, ending), nil
		}
		// Two bytes more than the limit decide whether a line end follows.
		if have >= limit+2 {
			n := limit - len(long)
			text := in[:n]
			c.r += n
			if long != nil {
				text = append(long, text...)
			}
			return Line{Text: text, Long: true}, nil
		}
		scanned = len(in)
		if len(in) == bulkBuffer {
			// The last two bytes stay: they may be beyond the limit.
			long = append(long, in[:len(in)-2]...)
			c.r += len(in) - 2
			scanned = 0
		}
		if err := c.fill(); err != nil {
			return Line{}, err
		}
	}
}

// fits reports whether the line, without one CR at its end, is within limit.
func fits(long, in []byte, limit int) bool {
	n := len(long) + len(in)
	if n <= limit {
		return true
	}
	cr := len(in) > 0 && in[len(in)-1] == '\r' || len(in) == 0 && len(long) > 0 && long[len(long)-1] == '\r'
	return n == limit+1 && cr
}

func endLine(text []byte, ending Ending) Line {
	l := Line{Text: text, Bare: true}
	for len(l.Text) > 0 && l.Text[len(l.Text)-1] == '\r' {
		l.Text = l.Text[:len(l.Text)-1]
		l.Bare = false
		if ending == OneCR {
			break
		}
	}
	return l
}

// ReadSome reads at least one and at most len(p) bytes of counted input (BDAT).
func (c *Conn) ReadSome(p []byte) (int, error) {
	if c.r == c.w {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.in[c.r:c.w])
	c.r += n
	return n, nil
}
