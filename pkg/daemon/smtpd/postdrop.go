package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// postdropSink hands a message to postdrop, the program that may write into
// the maildrop queue, in stand-alone mode (ipc.md §2.2). A user who runs
// "sendmail -bs" has no access to cleanup.
type postdropSink struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	in     io.WriteCloser
	out    *attr.Reader
	w      *bufio.Writer
	buf    []byte
	id     string
	err    error
}

const postdropProtocol = "postdrop_protocol"

func openPostdrop(ctx context.Context, program string, log *maillog.Logger) (messageSink, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &postdropSink{cmd: exec.CommandContext(ctx, program), cancel: cancel}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err == nil {
		var out io.ReadCloser
		if out, err = p.cmd.StdoutPipe(); err == nil {
			p.out = attr.NewReader(out, attr.Null, "postdrop")
			err = p.cmd.Start()
		}
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("unable to execute %s: %w", program, err)
	}
	p.in, p.w = in, bufio.NewWriter(in)
	if err := attr.Expect(p.out, postdropProtocol, attr.Str("queue_id", &p.id)); err != nil {
		p.Abort()
		return nil, fmt.Errorf("command \"%s\" failed: %w", program, err)
	}
	return p, nil
}

func (p *postdropSink) ID() string { return p.id }

func (p *postdropSink) Rec(t record.Type, data []byte) error {
	if p.err == nil {
		p.buf = record.Append(p.buf[:0], t, data)
		_, p.err = p.w.Write(p.buf)
	}
	return p.err
}

func (p *postdropSink) Flush() error {
	if p.err == nil {
		p.err = p.w.Flush()
	}
	return p.err
}

// Finish waits for the verdict even when postdrop stopped reading: it may
// have said why.
func (p *postdropSink) Finish() (cleanup.Result, error) {
	p.Flush()
	p.in.Close()
	var status int
	var r cleanup.Result
	err := p.out.Scan(attr.Int("status", &status), attr.Str("reason", &r.Reason))
	r.Status = cleanup.Status(status)
	p.cmd.Wait()
	p.cancel()
	return r, err
}

func (p *postdropSink) Abort() {
	p.in.Close()
	p.cancel()
	p.cmd.Wait()
}
