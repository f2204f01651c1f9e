package qmqpd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
)

// maxInMemory is how much of a message is held in memory, in bytes.
const maxInMemory = 64 << 10

// holder keeps message content, which QMQP sends before the envelope, until the
// envelope has gone to cleanup: in memory, then in a file without a name.
type holder struct {
	open func() (*os.File, error)
	head bytes.Buffer
	file *os.File
	err  error // of the file
}

// anonymous makes a file that ends with the process.
func anonymous(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

func newHolder() *holder {
	return &holder{open: func() (*os.File, error) { return anonymous(queue.Incoming) }}
}

func (h *holder) Write(b []byte) (n int, err error) {
	if h.file == nil && h.head.Len()+len(b) <= maxInMemory {
		return h.head.Write(b)
	}
	if h.file == nil {
		h.file, h.err = h.open()
	}
	if h.err == nil {
		n, h.err = h.file.Write(b)
	}
	return n, h.err
}

// reader gives the content from its start.
func (h *holder) reader() (io.Reader, error) {
	if h.file == nil {
		return &h.head, nil
	}
	if _, err := h.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.MultiReader(&h.head, h.file), nil
}

func (h *holder) close() {
	if h.file != nil {
		h.file.Close()
	}
}

// putter takes records.
type putter interface {
	Rec(t record.Type, data []byte) error
}

// errSpool is trouble with the message that was put aside.
var errSpool = errors.New("cannot read back the message content")

// copyContent turns message content into records: lines end in LF, longer ones
// than limit bytes are split. "From " lines at the start are the envelope of a
// mailbox file and become a header; a folded line without a header before it
// starts the body.
func copyContent(to putter, from io.Reader, limit int) error {
	if limit <= 0 {
		limit = 1 << 16
	}
	r := bufio.NewReaderSize(from, max(limit, 16))
	head, start := true, true
	for {
		piece, end, err := readPiece(r, limit)
		if err == io.EOF && len(piece) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("%w: %v", errSpool, err)
		}
		if head && start {
			text := string(piece)
			switch {
			case strings.HasPrefix(text, "From ") || strings.HasPrefix(text, ">From "):
				piece = append([]byte("X-Mailbox-Line: "), piece...)
			default:
				head = false
				if len(piece) > 0 && (piece[0] == ' ' || piece[0] == '\t') {
					if err := to.Rec(record.TypeNormal, nil); err != nil {
						return err
					}
				}
			}
		}
		t := record.TypeContinued
		if end {
			t = record.TypeNormal
		}
		if err := to.Rec(t, piece); err != nil {
			return err
		}
		start = end
	}
}

// readPiece reads a line, without its end, or the first limit bytes of what is
// longer; end tells that the line ended.
func readPiece(r *bufio.Reader, limit int) (piece []byte, end bool, err error) {
	b, err := r.Peek(limit)
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		piece = append(piece, b[:i]...)
		_, _ = r.Discard(i + 1)
		return piece, true, nil
	}
	piece = append(piece, b...)
	_, _ = r.Discard(len(b))
	if len(piece) == 0 || err != nil && !errors.Is(err, io.EOF) {
		return piece, false, err
	}
	if len(piece) == limit { // the end of the line may be the next byte
		if next, _ := r.Peek(1); len(next) == 1 && next[0] == '\n' {
			_, _ = r.Discard(1)
			return piece, true, nil
		}
	}
	return piece, false, nil
}
