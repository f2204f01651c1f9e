package smtpsink

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/load"
)

// spill is how much of a message for a shared file is held in memory; what is
// longer waits in a temporary file.
const spill = 256 << 10

// dumper writes messages to files (-d, -D).
type dumper struct {
	*settings
	mu sync.Mutex // of the shared file
}

func newDumper(s *settings) *dumper {
	if s.dump == "" {
		return nil
	}
	return &dumper{settings: s}
}

// capture is one message on its way to a file. A nil one is thrown away.
type capture struct {
	d      *dumper
	path   string
	file   *os.File // nil as long as memory holds it all
	memory bytes.Buffer
	err    error
}

// open starts a message with the headers that say how it came.
func (d *dumper) open(s *session) *capture {
	if d == nil {
		return nil
	}
	now := time.Now()
	var random [4]byte
	_, _ = rand.Read(random[:])
	id := hex.EncodeToString(random[:])
	c := &capture{d: d, path: strftime(d.dump, now)}
	if !d.dumpAll {
		c.path += id
	}
	if dir := filepath.Dir(c.path); strings.Contains(c.path, "/") {
		c.err = os.MkdirAll(dir, 0o755)
	}
	if !d.dumpAll && c.err == nil {
		c.file, c.err = os.OpenFile(c.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	}
	c.head(s, id, now)
	return c
}

func (c *capture) head(s *session, id string, now time.Time) {
	b := &c.memory
	fmt.Fprintf(b, "%sX-Client-Addr: %s\nX-Client-Proto: %s\n", c.d.start, s.peer, s.proto)
	from := "[" + s.peer + "]"
	if s.helo != "" {
		fmt.Fprintf(b, "X-Helo-Args: %s\n", s.helo)
		from = s.helo
	}
	fmt.Fprintf(b, "X-Mail-Args: %s\n", s.from)
	for _, r := range s.recipients {
		fmt.Fprintf(b, "X-Rcpt-Args: %s\n", r)
	}
	fmt.Fprintf(b, "Received: from %s ([%s])\n\tby %s (smtp-sink) with %s id %s;\n\t%s\n",
		from, s.peer, s.hostname, s.proto, id, now.Format("Mon, _2 Jan 2006 15:04:05 -0700 (MST)"))
}

// write adds a line, or a part of one; a complete line ends with CR LF, which
// becomes LF.
func (c *capture) write(text []byte, complete bool) {
	if complete {
		text = text[:len(text)-2]
	}
	c.memory.Write(text)
	if complete {
		c.memory.WriteByte('\n')
	}
	if c.memory.Len() >= spill {
		c.spill()
	}
}

// spill moves what is in memory to the message's own file.
func (c *capture) spill() {
	if c.err == nil && c.file == nil {
		if c.file, c.err = os.CreateTemp(filepath.Dir(c.path), ".smtp-sink"); c.err == nil {
			c.err = os.Remove(c.file.Name())
		}
	}
	if c.err == nil {
		_, c.err = c.memory.WriteTo(c.file)
	}
	c.memory.Reset()
}

// discard forgets the message.
func (c *capture) discard() {
	if c == nil || c.file == nil {
		return
	}
	c.file.Close()
	if !c.d.dumpAll {
		os.Remove(c.path)
	}
}

// commit puts the message, and an empty line, into its file.
func (c *capture) commit() error {
	if c == nil {
		return nil
	}
	c.memory.WriteByte('\n')
	if !c.d.dumpAll {
		c.spill()
		if c.file != nil {
			if err := c.file.Close(); c.err == nil {
				c.err = err
			}
		}
		return c.failed()
	}
	if c.err == nil {
		c.err = c.append()
	}
	return c.failed()
}

func (c *capture) failed() error {
	if c.err == nil {
		return nil
	}
	return fmt.Errorf("dump file %s: %w", c.path, load.Reason(c.err))
}

// append adds the message to the shared file.
func (c *capture) append() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.file != nil {
		defer c.file.Close()
		if _, err := c.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(f, c.file); err != nil {
			return err
		}
	}
	_, err = c.memory.WriteTo(f)
	return err
}

// layouts are conversions of strftime(3) beyond the usual ones.
var layouts = map[byte]string{'I': "03", 'p': "PM", 'h': "Jan"}

// strftime formats a time; what is no conversion stays as it is.
func strftime(format string, when time.Time) string {
	text, _ := command.Strftime(format, when, func(conversion byte) (string, error) {
		if layout, known := layouts[conversion]; known {
			return when.Format(layout), nil
		}
		return "%" + string(conversion), nil
	})
	return text
}
