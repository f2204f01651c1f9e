package sendmail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// readBuffer is the size of the buffers around postdrop and standard input.
const readBuffer = 16 << 10

// enqueue submits one message.
func (c *client) enqueue(ctx context.Context) (int, error) {
	if err := c.permitted(ctx); err != nil {
		return 0, err
	}
	c.limitFileSize()
	sender, err := c.envelopeSender()
	if err != nil {
		return 0, err
	}
	delimiters, err := c.verpDelimiters()
	if err != nil {
		return 0, err
	}
	d, err := c.startPostdrop(sender)
	if err != nil {
		return 0, err
	}
	defer d.close()
	s := &submission{client: c, out: d.out, sender: sender, verp: delimiters}
	if err := s.send(); err != nil {
		return 0, err
	}
	result := d.verdict()
	if result.Status != cleanup.OK {
		reason := result.Reason
		if reason == "" {
			reason = result.Status.Text()
		}
		return 0, c.failure(sender, "%s", reason)
	}
	if c.trace != 0 {
		fmt.Fprintf(c.env.Stdout, "Mail Delivery Status Report will be mailed to <%s>.\n", sender)
	}
	return 0, nil
}

// limitFileSize lets the kernel enforce message_size_limit on postdrop, too.
func (c *client) limitFileSize() {
	limit := c.cfg.Int64("message_size_limit")
	var r syscall.Rlimit
	if limit > 0 && syscall.Getrlimit(syscall.RLIMIT_FSIZE, &r) == nil && r.Cur > uint64(limit) {
		r.Cur = uint64(limit)
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, &r)
	}
}

// envelopeSender is the -f address or the login name.
func (c *client) envelopeSender() (string, error) {
	if c.options.sender == nil {
		who, err := cred.LookupID(c.uid)
		if err != nil {
			return "", fmt.Errorf("no login name found for user ID %d", c.uid)
		}
		return who.Name, nil
	}
	list := address.ExtractAddrs(*c.options.sender)
	if len(list) > 1 {
		c.log.Warn("-f option specified malformed sender: %s", *c.options.sender)
	}
	if len(list) == 0 {
		return "", nil
	}
	return list[0], nil
}

func (c *client) verpDelimiters() (string, error) {
	if c.verpStd {
		return c.cfg.String("default_verp_delimiters"), nil
	}
	filter := c.cfg.String("verp_delimiter_filter")
	if c.verp != "" && (len(c.verp) != 2 || strings.Trim(c.verp, filter) != "") {
		return "", fmt.Errorf("-V requires two characters from %s", filter)
	}
	return c.verp, nil
}

// fullName is the sender's name for the message: -F, $NAME, or that of the
// account. ok is false when there is no account.
func (c *client) name() (name string, ok bool) {
	if c.options.fullName != nil {
		return *c.options.fullName, true
	}
	if name, ok := c.env.Lookup("NAME"); ok {
		return name, true
	}
	who, err := cred.LookupID(c.uid)
	if err != nil {
		return "", false
	}
	return accountName(who.FullName, who.Name), true
}

// accountName is the name in a GECOS field; "&" stands for the login name.
func accountName(gecos, login string) string {
	if i := strings.IndexAny(gecos, ",;%"); i >= 0 {
		gecos = gecos[:i]
	}
	if login != "" {
		gecos = strings.ReplaceAll(gecos, "&", strings.ToUpper(login[:1])+login[1:])
	}
	return gecos
}

// dropper is a running postdrop.
type dropper struct {
	c   *client
	cmd *exec.Cmd
	raw io.WriteCloser
	out *record.Writer
	buf *bufio.Writer
	in  *attr.Reader
}

// startPostdrop runs postdrop and reads the queue id.
func (c *client) startPostdrop(sender string) (*dropper, error) {
	path := filepath.Join(c.cfg.String("command_directory"), "postdrop")
	line := strings.Join(append([]string{path, "-r"}, c.verbosity()...), " ")
	words := shellWords(line)
	d := &dropper{c: c, cmd: exec.Command(words[0], words[1:]...)}
	d.cmd.Env = c.exportEnvironment()
	d.cmd.Stderr = c.env.Stderr
	var out io.ReadCloser
	raw, err := d.cmd.StdinPipe()
	if err == nil {
		out, err = d.cmd.StdoutPipe()
	}
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		return nil, c.failure(sender, "unable to execute %s: %v", line, maillog.Errno(err))
	}
	d.raw, d.buf = raw, bufio.NewWriterSize(raw, readBuffer)
	d.out = record.NewWriter(d.buf)
	d.in = attr.NewReader(out, attr.Null, "postdrop")
	var id string
	if err := attr.Expect(d.in, "postdrop_protocol", attr.Str("queue_id", &id)); err != nil {
		d.raw.Close()
		status := d.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(status, &exit) {
			c.log.Warn("command \"%s\" exited with status %d", line, exit.ExitCode())
		}
		return nil, c.failure(sender, "unable to execute %s: %v", line, maillog.Errno(syscall.ENOENT))
	}
	return d, nil
}

// verdict ends the conversation.
func (d *dropper) verdict() cleanup.Result {
	var status int
	var r cleanup.Result
	d.buf.Flush()
	if err := d.in.Scan(attr.Int("status", &status), attr.Str("reason", &r.Reason)); err != nil {
		return cleanup.Result{Status: cleanup.StatusWrite}
	}
	r.Status = cleanup.Status(status)
	return r
}

// close lets postdrop go; before the end record it then forgets the message.
func (d *dropper) close() {
	d.raw.Close()
	d.cmd.Wait()
}

// submission is one message on its way to postdrop.
type submission struct {
	*client
	out    *record.Writer
	sender string
	verp   string
	given  int // recipients on the command line
}

// send writes the message. An error of postdrop's is not one of ours: the
// verdict tells it.
func (s *submission) send() error {
	if err := s.envelope(); err != nil {
		return err
	}
	s.out.Put(record.TypeMessage, nil)
	extracted, err := s.content()
	if err != nil {
		return err
	}
	if s.given == 0 && len(extracted) == 0 {
		if s.extract {
			return s.failure(s.sender, "No recipient addresses found in message header")
		}
		return s.failure(s.sender, "Recipient addresses must be specified on the command line or via the -t option")
	}
	s.out.Put(record.TypeExtracted, nil)
	for _, rcpt := range extracted {
		s.recipient(rcpt, true)
	}
	s.out.Put(record.TypeEnd, nil)
	s.out.Flush()
	return nil
}

func (s *submission) attr(name, value string) {
	if value != "" {
		s.out.PutAttr(name, value)
	}
}

func (s *submission) envelope() error {
	s.attr("envelope_id", s.envelopeID)
	if s.ret != 0 {
		s.attr("ret_flags", fmt.Sprint(int(s.ret)))
	}
	s.attr("rewrite_context", s.context)
	if name, ok := s.name(); ok {
		s.out.PutString(record.TypeFullName, name)
	}
	s.out.PutString(record.TypeFrom, s.sender)
	if s.verp != "" && s.sender == "" {
		return s.failure(s.sender, "-V option requires non-null sender address")
	}
	s.attr("encoding", s.encoding)
	if s.trace != 0 {
		s.attr("trace_flags", fmt.Sprint(s.trace))
	}
	if s.verp != "" {
		s.out.PutString(record.TypeVERP, s.verp)
	}
	for _, arg := range s.recipients {
		s.given++
		list := address.ExtractAddrs(arg)
		for _, rcpt := range list {
			s.recipient(rcpt, true)
		}
		if len(list) == 0 {
			s.recipient("", false)
		}
	}
	return nil
}

func (s *submission) recipient(rcpt string, notify bool) {
	if notify && s.notify != 0 {
		s.attr("notify_flags", fmt.Sprint(int(s.notify)))
	}
	s.out.PutString(record.TypeRcpt, rcpt)
}

// probe is the content of a message that only asks.
func (s *submission) probe() {
	if s.sender != "" {
		s.out.Printf(record.TypeNormal, "From: %s", address.Quote(s.sender))
	}
	s.out.PutString(record.TypeNormal, "Subject: probe")
	s.out.PutString(record.TypeContinued, "To:")
	for i, rcpt := range s.recipients {
		comma := ","
		if i == len(s.recipients)-1 {
			comma = ""
		}
		s.out.Printf(record.TypeNormal, "\t%s%s", rcpt, comma)
	}
}

// content copies standard input and returns the recipients in its headers
// when -t asks for them.
func (s *submission) content() (extracted []string, err error) {
	if s.trace&traceVerify != 0 {
		s.probe()
		return nil, nil
	}
	endings, err := newLineEndings(s.cfg.String("sendmail_fix_line_endings"))
	if err != nil {
		return nil, err
	}
	var headers *recipients
	if s.extract {
		headers = newRecipients(s.cfg)
	}
	limit := s.cfg.Int("line_length_limit")
	in := bufio.NewReaderSize(s.env.Stdin, max(readBuffer, limit+2))
	begun, partial := false, false
	for {
		line, full, err := readPiece(in, limit)
		if err != nil && err != io.EOF {
			return nil, s.failure(s.sender, "error reading input: %v", maillog.Errno(err))
		}
		if err == io.EOF && len(line) == 0 {
			break
		}
		if full {
			line = endings.fix(line)
		}
		// Mailboxes put "From " lines in front of messages, other
		// programs quote them.
		if !begun && !partial && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
			if !full {
				skipLine(in) // an error comes again with the next piece
			}
			continue
		}
		begun = true
		if full && !partial && !s.keepDots && len(line) == 1 && line[0] == '.' {
			break
		}
		partial = !full
		if headers != nil {
			if err := headers.line(full, line); err != nil {
				return nil, s.failure(s.sender, "%v", err)
			}
		}
		t := record.TypeContinued
		if full {
			t = record.TypeNormal
		}
		if s.out.Put(t, line) != nil {
			return nil, nil // postdrop has gone, its verdict says why
		}
		if err == io.EOF {
			break
		}
	}
	if headers != nil {
		extracted = headers.end()
	}
	return extracted, nil
}

// readPiece reads at most limit bytes of a line; full tells that the line's
// end was reached, and its newline removed.
func readPiece(in *bufio.Reader, limit int) (line []byte, full bool, err error) {
	window, err := in.Peek(limit + 1)
	if i := bytes.IndexByte(window, '\n'); i >= 0 {
		in.Discard(i + 1)
		return window[:i], true, nil
	}
	if len(window) > limit {
		in.Discard(limit)
		return window[:limit], false, nil
	}
	in.Discard(len(window))
	return window, false, err
}

// skipLine reads the rest of a line.
func skipLine(in *bufio.Reader) {
	for {
		if _, err := in.ReadSlice('\n'); err != bufio.ErrBufferFull {
			return
		}
	}
}
