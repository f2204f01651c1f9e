package postqueue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/showq"
	"posthaste/pkg/sys/maillog"
)

// formatter shows the list in one form or another.
type formatter interface {
	message(m showq.Message)
	recipient(r showq.Recipient)
	endMessage()
	end()
}

// list shows the queue (-p, -j).
func (c *client) list(ctx context.Context, f formatter) error {
	if err := c.allow(ctx, "authorized_mailq_users", "view"); err != nil {
		return err
	}
	service := c.cfg.String("showq_service_name")
	d := dial.Dialer{Timeout: c.cfg.Duration("ipc_timeout")}
	conn, err := d.Dial(ctx, dial.Public, service)
	if err == nil {
		defer conn.Close()
		return c.copy(attr.NewReader(bufio.NewReaderSize(conn, bufferSize), attr.Null, conn.In.From()), f)
	}
	why := fmt.Sprintf("Connect to the %s %s service: %s", c.cfg.String("mail_name"), service, dial.Reason(err))
	switch {
	case errors.Is(err, os.ErrPermission):
		return errors.New(why)
	case os.Geteuid() != 0:
		return fmt.Errorf("Queue report unavailable - mail system is down (%s)", why)
	}
	c.log.Warn("Mail system is down -- accessing queue directly (%s)", why)
	return c.direct(ctx, f)
}

// direct runs the daemon ourselves when no master does.
func (c *client) direct(ctx context.Context, f formatter) error {
	path := filepath.Join(c.cfg.String("daemon_directory"), "showq")
	args := []string{"-u", "-S"}
	for range c.verbose {
		args = append(args, "-v")
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+c.cfg.Dir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("Error running %s", path)
	}
	copied := c.copy(attr.NewReader(bufio.NewReaderSize(out, bufferSize), attr.Null, path), f)
	out.Close()
	if err := cmd.Wait(); err != nil && copied == nil {
		return fmt.Errorf("Error running %s", path)
	}
	return copied
}

var errMalformed = errors.New("malformed showq server response")

// copy shows what the server sends.
func (c *client) copy(in *attr.Reader, f formatter) error {
	out := &c.out
	r := showq.NewReader(in)
	if err := r.Begin(); err != nil {
		c.log.Warn("%v", err)
		return errMalformed
	}
	for {
		m, err := r.Next()
		if err == io.EOF {
			f.end()
			return out.finish()
		}
		if err != nil {
			return errMalformed
		}
		f.message(m)
		for {
			rcpt, more, err := r.Recipient()
			if err != nil {
				return errMalformed
			}
			if !more {
				break
			}
			f.recipient(rcpt)
		}
		f.endMessage()
		if out.failed != nil {
			return out.finish()
		}
	}
}

// bufferSize is that of input and output: what showq sends at once.
const bufferSize = 32 << 10

// output is standard output. A reader that has gone away is no error.
type output struct {
	*bufio.Writer
	to     io.Writer
	failed error // of the first write that failed
}

// open makes o write to a stream.
func (o *output) open(to io.Writer) {
	o.to = to
	o.Writer = bufio.NewWriterSize(checked{o}, bufferSize)
}

// checked is the way from the buffer to the stream.
type checked struct{ o *output }

func (s checked) Write(b []byte) (int, error) {
	n, err := s.o.to.Write(b)
	if s.o.failed == nil {
		s.o.failed = err
	}
	return n, err
}

func (o *output) finish() error {
	err := o.Flush()
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return fmt.Errorf("output write error: %w", maillog.Errno(err))
}

// layout is how the human-readable list looks: widths of the columns. Long queue
// ids need more room.
type layout struct {
	id, size, time int
	heading        string
}

var layouts = map[bool]layout{
	false: {11, 7, 20, "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"},
	true:  {17, 8, 19, "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"},
}

const reasonColumn = 76 // width of a reason that reaches column 78 with its parentheses

// text is the list for people.
type text struct {
	layout
	out      *output
	show     func(string) string
	messages uint64
	bytes    uint64
	reason   string
	second   int64  // of the time last shown
	when     string // that time
	line     []byte // being made
}

func (c *client) newText() *text {
	return newTextFor(c, c.cfg.Bool("enable_long_queue_ids"), c.printable())
}

func newTextFor(c *client, long bool, show func(string) string) *text {
	c.out.open(c.env.Stdout)
	return &text{layout: layouts[long], out: &c.out, show: show}
}

func (t *text) message(m showq.Message) {
	if t.messages == 0 {
		t.out.WriteString(t.heading)
	} else {
		t.out.WriteByte('\n')
	}
	t.messages++
	t.bytes += uint64(m.Size)
	t.reason = ""
	if t.when == "" || t.second != m.Time {
		t.second, t.when = m.Time, time.Unix(m.Time, 0).Format(time.ANSIC)
	}
	line := append(t.line[:0], m.ID...)
	switch m.Queue {
	case "active":
		line = append(line, '*')
	case "hold":
		line = append(line, '!')
	}
	if m.ForcedExpire {
		line = append(line, '#')
	}
	line = blanks(line, t.id+1-len(line), 1)
	var digits [20]byte
	size := strconv.AppendInt(digits[:0], m.Size, 10)
	line = append(blanks(line, t.size-len(size), 0), size...)
	line = append(line, ' ')
	line = append(line, t.when[:t.time]...)
	line = append(line, ' ')
	line = append(line, t.show(m.Sender)...)
	t.print(line)
}

func (t *text) recipient(r showq.Recipient) {
	if r.Reason != t.reason {
		t.reason = r.Reason
		reason := t.show(r.Reason)
		if reason == "" {
			reason = "reason unavailable"
		}
		line := append(blanks(t.line[:0], reasonColumn-len(reason), 0), '(')
		line = append(line, reason...)
		t.print(append(line, ')'))
	}
	line := blanks(t.line[:0], t.id+1+t.size+1+t.time+1, 0)
	t.print(append(line, t.show(r.Address)...))
}

// blanks adds n blanks, but not less than the given number.
func blanks(line []byte, n, least int) []byte {
	for range max(n, least) {
		line = append(line, ' ')
	}
	return line
}

func (t *text) print(line []byte) {
	t.line = append(line, '\n')
	t.out.Write(t.line)
}

func (t *text) endMessage() {}

func (t *text) end() {
	if t.messages == 0 {
		t.out.WriteString("Mail queue is empty\n")
		return
	}
	plural := "s"
	if t.messages == 1 {
		plural = ""
	}
	fmt.Fprintf(t.out, "\n-- %d Kbytes in %d Request%s.\n", t.bytes/1024, t.messages, plural)
}

// printable is what is done to values from the server before they are shown.
func (c *client) printable() func(string) string {
	keep := c.cfg.Bool("smtputf8_enable")
	return func(s string) string { return showq.Printable(s, keep) }
}

// json is the list for programs: an object a line.
type json struct {
	out   *output
	keep  func(string) string
	comma string
}

func (c *client) newJSON() *json { return newJSONFor(c, c.printable()) }

func newJSONFor(c *client, keep func(string) string) *json {
	c.out.open(c.env.Stdout)
	return &json{out: &c.out, keep: keep}
}

func (j *json) message(m showq.Message) {
	fmt.Fprintf(j.out, `{"queue_name": %s, "queue_id": %s, "arrival_time": %d, "message_size": %d, "forced_expire": %t, "sender": %s, "recipients": [`,
		j.quote(m.Queue), j.quote(m.ID), m.Time, m.Size, m.ForcedExpire, j.quote(m.Sender))
	j.comma = ""
}

func (j *json) recipient(r showq.Recipient) {
	fmt.Fprintf(j.out, `%s{"address": %s`, j.comma, j.quote(r.Address))
	if r.Reason != "" {
		fmt.Fprintf(j.out, `, "delay_reason": %s`, j.quote(r.Reason))
	}
	j.out.WriteByte('}')
	j.comma = ", "
}

func (j *json) endMessage() { j.out.WriteString("]}\n") }
func (j *json) end()        {}

var jsonEscapes = map[byte]string{'\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\\': `\\`, '"': `\"`}

func (j *json) quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		if escape, ok := jsonEscapes[c]; ok {
			b.WriteString(escape)
		} else if c < ' ' || c == 0x7f {
			fmt.Fprintf(&b, `\u%04X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return j.keep(b.String())
}
