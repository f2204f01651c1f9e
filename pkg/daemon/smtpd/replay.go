package smtpd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// replayLog is the unnamed file that holds one message on its way to a
// before-queue filter (smtpd_proxy_options = speed_adjust): commands and
// content lines in order, each with a byte that tells its kind. A session
// uses one file for all its messages. Its size is bounded by
// message_size_limit and smtpd_recipient_limit.
type replayLog struct {
	dir string
	f   *os.File
	w   *bufio.Writer
	r   *bufio.Reader
	buf []byte
}

// errReplayEnd is the regular end of a log.
var errReplayEnd = errors.New("end of replay log")

// maxReplayEntry bounds an entry that is read back.
const maxReplayEntry = 1 << 24

// newReplayLog returns a log that makes its file in dir when it is first used.
func newReplayLog(dir string) *replayLog { return &replayLog{dir: dir} }

// reset makes the log empty, for a new message.
func (l *replayLog) reset() error {
	if l.f == nil {
		f, err := os.CreateTemp(l.dir, "speed_adjust.*")
		if err != nil {
			return err
		}
		if err := os.Remove(f.Name()); err != nil {
			f.Close()
			return err
		}
		l.f = f
	}
	l.w, l.r = bufio.NewWriter(l.f), nil
	if _, err := l.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return l.f.Truncate(0)
}

// put appends an entry.
func (l *replayLog) put(kind byte, data []byte) error {
	l.buf = binary.AppendUvarint(append(l.buf[:0], kind), uint64(len(data)))
	l.w.Write(l.buf)
	_, err := l.w.Write(data)
	return err
}

// rewind ends writing and goes to the first entry.
func (l *replayLog) rewind() error {
	if err := l.w.Flush(); err != nil {
		return err
	}
	l.w = nil
	_, err := l.f.Seek(0, io.SeekStart)
	l.r = bufio.NewReader(l.f)
	return err
}

// next is the next entry, valid until the following call.
func (l *replayLog) next() (kind byte, data []byte, err error) {
	if kind, err = l.r.ReadByte(); err != nil {
		if err == io.EOF {
			l.r = nil
			return 0, nil, errReplayEnd
		}
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(l.r)
	if err == nil && n > maxReplayEntry {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, err
	}
	if uint64(cap(l.buf)) < n {
		l.buf = make([]byte, n)
	}
	l.buf = l.buf[:n]
	if _, err := io.ReadFull(l.r, l.buf); err != nil {
		return 0, nil, err
	}
	return kind, l.buf, nil
}

// close gives the file up.
func (l *replayLog) close() {
	if l != nil && l.f != nil {
		l.f.Close()
		l.f = nil
	}
}
