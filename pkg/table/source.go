package table

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"posthaste/pkg/sys/maillog"
)

// space is what counts as white space in sources (config.md 1.2).
const space = " \t\n\v\f\r"

// maxLogicalLine bounds one logical line of a source, in bytes.
const maxLogicalLine = 64 << 20

// maxFileValue bounds the files a value is read from, in bytes together.
const maxFileValue = 64 << 20

// LineReader reads the logical lines of a table source (config.md 1.2).
type LineReader struct {
	r    *bufio.Reader
	name string
	log  *maillog.Logger
	next int // number of the physical lines read so far
	err  error
}

// NewLineReader reads from r; name is the file name for warnings.
func NewLineReader(r io.Reader, name string, log *maillog.Logger) *LineReader {
	return &LineReader{r: bufio.NewReaderSize(r, 64<<10), name: name, log: log}
}

// Next gives the next logical line, without its newline and otherwise as it is, and the
// number of its first physical line. ok is false at the end or after an error (see Err).
func (l *LineReader) Next() (line string, number int, ok bool) {
	for {
		line, number, ok = l.logical()
		line, _, _ = strings.Cut(line, "\x00") // as C strings end
		if !ok || line == "" || strings.IndexByte(space, line[0]) < 0 {
			return line, number, ok
		}
		more := ""
		if len(line) > 30 {
			more = "..."
		}
		l.log.Warn("%s: logical line must not start with whitespace: \"%.30s%s\"", l.name, line, more)
	}
}

// Err is the read error that ended the lines, if any.
func (l *LineReader) Err() error {
	if l.err == io.EOF {
		return nil
	}
	return l.err
}

func (l *LineReader) logical() (string, int, bool) {
	var b strings.Builder
	first := 0
	for l.err == nil {
		// A line that does not start with white space ends the one before.
		if first > 0 {
			c, err := l.r.Peek(1)
			if err == nil && strings.IndexByte(space, c[0]) < 0 && c[0] != '#' {
				return b.String(), first, true
			}
		}
		text, err := l.r.ReadString('\n')
		l.err = err
		if text == "" {
			break
		}
		l.next++
		text = strings.TrimSuffix(text, "\n")
		if t := strings.TrimLeft(text, space); t == "" || t[0] == '#' {
			continue
		}
		if b.Len()+len(text) > maxLogicalLine {
			l.err = fmt.Errorf("%s, line %d: line too long", l.name, l.next)
			return "", 0, false
		}
		if first == 0 {
			first = l.next
		}
		b.WriteString(text)
	}
	return b.String(), first, first > 0
}

// Source reads key-value pairs from a text file for postmap and texthash (config.md 3.6).
type Source struct {
	lines *LineReader
	log   *maillog.Logger
	name  string
	// UTF8 makes lines that are not UTF-8 be skipped with a warning.
	UTF8 bool
	// Suffix is appended to the warning about a missing value.
	Suffix string
	// Files makes values name files, whose contents are the base64 value.
	Files bool
}

// NewSource reads pairs from lines.
func NewSource(lines *LineReader) *Source {
	return &Source{lines: lines, log: lines.log, name: lines.name}
}

// Next gives the next pair and the number of its line. ok is false at the end.
func (s *Source) Next() (key, value string, line int, ok bool) {
	for {
		text, n, ok := s.lines.Next()
		if !ok {
			return "", "", 0, false
		}
		if s.UTF8 && !utf8.ValidString(text) {
			s.warn(n, "non-UTF-8 input \"%s\" -- ignoring this line", text)
			continue
		}
		end, ok := keyEnd(text)
		if !ok {
			s.warn(n, "unbalanced '\"' in '%s' -- ignoring this line", text)
			continue
		}
		key, value = text[:end], strings.Trim(text[end:], space)
		if key == "" || value == "" {
			s.warn(n, "expected format: key whitespace value%s", s.Suffix)
			continue
		}
		if key[len(key)-1] == ':' {
			s.warn(n, "record is in \"key: value\" format; is this an alias file?")
		}
		if s.Files {
			if value, ok = s.fromFiles(value, n); !ok {
				continue
			}
		}
		return key, value, n, true
	}
}

// Err is the read error that ended the pairs, if any.
func (s *Source) Err() error { return s.lines.Err() }

func (s *Source) warn(line int, format string, args ...any) {
	s.log.Warn("%s, line %d: %s", s.name, line, fmt.Sprintf(format, args...))
}

func (s *Source) fromFiles(list string, line int) (string, bool) {
	value, err := FileValue(list)
	if err != nil {
		s.warn(line, "%s: skipping this entry", err)
		return "", false
	}
	return value, true
}

// keyEnd finds the end of the key: the first white space outside quotes, where a
// backslash protects the next byte.
func keyEnd(text string) (int, bool) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(space, c) >= 0:
			return i, true
		}
	}
	return len(text), !quoted
}

// FileValue reads the files named in list (comma or blank separated), puts a
// newline between them and gives the base64 form.
func FileValue(list string) (string, error) {
	names := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) })
	if len(names) == 0 {
		return "", fmt.Errorf("empty pathname list: >>%s<<'", list)
	}
	var all []byte
	for i, name := range names {
		if i > 0 {
			all = append(all, '\n')
		}
		f, err := os.Open(name)
		if err != nil {
			return "", openError("open "+name, err)
		}
		data, err := io.ReadAll(io.LimitReader(f, maxFileValue+1))
		f.Close()
		if err != nil {
			return "", openError("read "+name, err)
		}
		all = append(all, data...)
		if len(all) > maxFileValue {
			return "", fmt.Errorf("file too large: %s", list)
		}
	}
	return base64.StdEncoding.EncodeToString(all), nil
}

// readStable opens path and calls read with it, again while the file may still be
// being written (the hot-file rule of config.md 1.3).
func readStable(path string, read func(f *os.File) error) error {
	const maxTries = 40
	before := time.Now().Unix()
	for try := 1; ; try++ {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = read(f)
		st, statErr := f.Stat()
		f.Close()
		if err != nil {
			return err
		}
		if statErr != nil {
			return statErr
		}
		after, mtime := time.Now().Unix(), st.ModTime().Unix()
		if mtime < before-1 || mtime > after || try == maxTries {
			return nil
		}
		before = after
		time.Sleep(300 * time.Millisecond)
	}
}

// sourceOwner is the owner of a text file.
func fileOwner(f *os.File) Owner {
	st, err := f.Stat()
	if err != nil {
		return Owner{}
	}
	return statOwner(st)
}
