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
		return c.copy(conn.In, f)
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
	copied := c.copy(attr.NewReader(out, attr.Null, path), f)
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
		if err := out.finish(); err != nil || out.closed {
			return err
		}
	}
}

// output is standard output. A reader that has gone away is no error.
type output struct {
	*bufio.Writer
	closed bool
}

func (o *output) finish() error {
	err := o.Flush()
	if errors.Is(err, syscall.EPIPE) {
		o.closed = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("output write error: %w", maillog.Errno(err))
	}
	return nil
}

// layout is how the human-readable list looks. Long queue ids need more room.
type layout struct{ row, message, heading string }

var layouts = map[bool]layout{
	false: {"%-11s %7s %-20s %s\n", "%-11s %7d %20.20s %s\n",
		fmt.Sprintf("%-11s %7s %-20s %s\n", "-Queue ID-", "--Size--", "----Arrival Time----", "-Sender/Recipient-------")},
	true: {"%-17s %8s %-19s %s\n", "%-17s %8d %19.19s %s\n",
		fmt.Sprintf("%-17s %8s %-19s %s\n", "----Queue ID-----", "--Size--", "---Arrival Time----", "--Sender/Recipient------")},
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
}

func (c *client) newText() *text {
	return newTextFor(c, c.cfg.Bool("enable_long_queue_ids"), c.printable())
}

func newTextFor(c *client, long bool, show func(string) string) *text {
	c.out.Writer = bufio.NewWriter(c.env.Stdout)
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
	id := m.ID
	switch m.Queue {
	case "active":
		id += "*"
	case "hold":
		id += "!"
	}
	if m.ForcedExpire {
		id += "#"
	}
	when := time.Unix(m.Time, 0).Format(time.ANSIC)
	fmt.Fprintf(t.out, t.layout.message, id, m.Size, when, t.show(m.Sender))
}

func (t *text) recipient(r showq.Recipient) {
	if r.Reason != t.reason {
		t.reason = r.Reason
		reason := t.show(r.Reason)
		if reason == "" {
			reason = "reason unavailable"
		}
		fmt.Fprintf(t.out, "%*s(%s)\n", max(0, reasonColumn-len(reason)), "", reason)
	}
	fmt.Fprintf(t.out, t.row, "", "", "", t.show(r.Address))
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
	c.out.Writer = bufio.NewWriter(c.env.Stdout)
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
