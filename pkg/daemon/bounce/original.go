package bounce

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// original is the message that a notice is about. The zero value is one whose
// file cannot be read: the notice then says so.
type original struct {
	file       *os.File
	path       string
	arrival    time.Time // zero: not known
	size       int64     // of the content; 0: not known
	dataOffset int64     // of the first content record; 0: not known
}

// maxEnvelope bounds the records looked at before the content.
const maxEnvelope = 2_000_000

// openOriginal opens the queue file with a shared lock and reads its envelope.
// What cannot be read is left out; only a lock that cannot be had is an
// error, as somebody is changing the message.
func (d *daemon) openOriginal(queueName, id string) (*original, error) {
	o := &original{path: d.spool.Path(queueName, id)}
	f, err := d.spool.Open(queueName, id, os.O_RDWR)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("open %s %s: %v", queueName, id, maillog.Errno(err))
		}
		return o, nil
	}
	if err := queue.Lock(f, false); err != nil {
		f.Close()
		d.log.Warn("cannot get shared lock on %s: %v", o.path, maillog.Errno(err))
		return nil, err
	}
	o.file = f
	o.readEnvelope(d.log)
	return o, nil
}

func (o *original) readEnvelope(log *maillog.Logger) {
	r := record.NewReader(o.file)
	r.Path = o.path
	for range maxEnvelope {
		t, data, err := r.Next()
		switch {
		case err != nil:
			if err != io.EOF {
				log.Warn("%v", err)
			}
			return
		case t == record.TypeMessage:
			o.dataOffset = r.Tell()
			return
		case t == record.TypeSize:
			size, _ := record.ParseSize(data)
			o.size = size.ContentSize
		case t == record.TypeTime && o.arrival.IsZero():
			o.arrival = parseTime(string(data))
		}
	}
}

// parseTime reads the data of a time record, "seconds[ microseconds]".
func parseTime(data string) time.Time {
	sec, usec, _ := strings.Cut(strings.TrimSpace(data), " ")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil || s <= 0 {
		return time.Time{}
	}
	u, _ := strconv.ParseInt(strings.TrimSpace(usec), 10, 64)
	return time.Unix(s, u*1000)
}

// readable tells whether the content can be copied.
func (o *original) readable() bool { return o.file != nil && o.dataOffset > 0 }

// content calls f for each content record until it returns false.
func (o *original) content(f func(t record.Type, data []byte) bool) error {
	r := record.NewReader(o.file)
	r.Path = o.path
	if err := r.SeekTo(o.dataOffset); err != nil {
		return err
	}
	for {
		t, data, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if t != record.TypeNormal && t != record.TypeContinued || !f(t, data) {
			return nil
		}
	}
}

func (o *original) close() {
	if o.file != nil {
		o.file.Close()
	}
}
