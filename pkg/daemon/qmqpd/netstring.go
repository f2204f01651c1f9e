package qmqpd

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
)

// Trouble with the stream of netstrings: what ends a session early.
var (
	errLost    = errors.New("lost connection")
	errTimeout = errors.New("read/write timeout")
	errFormat  = errors.New("netstring format error")
	errLong    = errors.New("netstring length exceeds storage limit")
)

// maxDigits bounds the length in front of a netstring.
const maxDigits = 18

// netstrings reads "length:bytes,".
type netstrings struct{ r *bufio.Reader }

// failed gives an error of the connection one of the names above.
func failed(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTimeout
	}
	return errLost
}

// length reads a length and its colon; nothing was read of what follows.
func (n netstrings) length() (int64, error) {
	var digits []byte
	for {
		b, err := n.r.ReadByte()
		switch {
		case err != nil:
			return 0, failed(err)
		case b == ':' && len(digits) > 0:
			size, err := strconv.ParseInt(string(digits), 10, 64)
			if err != nil {
				return 0, errFormat
			}
			return size, nil
		case b < '0' || b > '9' || len(digits) == maxDigits:
			return 0, errFormat
		}
		digits = append(digits, b)
	}
}

func (n netstrings) comma() error {
	b, err := n.r.ReadByte()
	switch {
	case err == io.EOF || err == nil && b != ',':
		return errFormat
	case err != nil:
		return failed(err)
	}
	return nil
}

// text reads a netstring of at most limit bytes.
func (n netstrings) text(limit int) (string, error) {
	size, err := n.length()
	if err != nil {
		return "", err
	}
	if size > int64(limit) {
		return "", errLong
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(n.r, b); err != nil {
		return "", failed(err)
	}
	return string(b), n.comma()
}

// copyTo copies a netstring of at most limit bytes (0 is no limit).
func (n netstrings) copyTo(w io.Writer, limit int64) error {
	size, err := n.length()
	if err != nil {
		return err
	}
	if limit > 0 && size > limit {
		return errLong
	}
	counted := &counter{r: io.LimitReader(n.r, size)}
	if _, err := io.Copy(w, counted); err != nil {
		if counted.err != nil {
			return failed(counted.err)
		}
		return err
	}
	if counted.n < size {
		return errLost
	}
	return n.comma()
}

// counter tells errors of reading from those of writing.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// more reports whether another netstring follows before the one around it ends.
func (n netstrings) more() (bool, error) {
	b, err := n.r.Peek(1)
	if err != nil {
		return false, failed(err)
	}
	if b[0] != ',' {
		return true, nil
	}
	_, err = n.r.Discard(1)
	return false, err
}

// netstring writes one.
func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s + "," }
