// Package postdrop is the command that puts a message into the maildrop: the
// only way in for local users (spec queue.md §8.3, ipc.md §2.2). It is set-gid
// and believes nothing of what it reads.
//
// sendmail, or any other program, writes queue file records to its standard
// input and gets the queue id and the verdict on its standard output. Exit
// status 0 with a reply of status 0 means that the message is on stable
// storage. A client that goes away before the end record has thought better of
// it: nothing stays behind.
package postdrop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/caller"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/trigger"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

const (
	protocol    = "postdrop_protocol"
	fileMode    = 0o644 // of the unfinished file; the finished one is 0744
	triggerTime = 2 * time.Second
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ)
	p := &command.Program{Name: "postdrop", Env: env}
	p.OpenLog()
	d := &drop{log: p.Log, env: env, uid: os.Getuid()}
	defer command.OnSignal(func(s syscall.Signal) {
		d.discard()
		os.Exit(int(s))
	})()
	code, err := d.run(args, p)
	if err != nil {
		d.discard()
		p.Log.Fatal("%v", err)
		return 1
	}
	return code
}

// drop is one run of the command.
type drop struct {
	log *maillog.Logger
	env command.Env
	cfg *conf.Config
	uid int // of who called us

	mu   sync.Mutex // the signal handler removes the file, too
	file *queue.File
}

// discard removes the unfinished file.
func (d *drop) discard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		d.file.Remove()
		d.file.Close()
		d.file = nil
	}
}

func (d *drop) run(args []string, p *command.Program) (int, error) {
	dir, verbose := "", 0
	options, _, err := getopt.Parse(args[1:], "c:rv")
	if err != nil {
		fmt.Fprintf(d.env.Stderr, "%s: %v\n", args[0], err)
		return 0, errors.New("usage: postdrop [-c config_dir] [-v]")
	}
	for _, o := range options {
		switch o.Letter {
		case 'c':
			dir = o.Value
		case 'v':
			if os.Geteuid() == 0 {
				verbose++
			}
		}
	}
	if d.cfg, err = p.EnterQueue(dir, verbose); err != nil {
		return 0, err
	}
	ctx := context.Background()
	if err := caller.Permit(ctx, d.cfg, d.log, "authorized_submit_users", d.uid, "submit mail"); err != nil {
		return 0, err
	}
	return d.accept(ctx)
}

// accept takes one message.
func (d *drop) accept(ctx context.Context) (int, error) {
	f, err := queue.Open(".", d.cfg).WithLog(d.log).CreateWait(ctx, queue.Maildrop, fileMode)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	d.file = f
	d.mu.Unlock()
	reply := attr.NewWriter(d.env.Stdout, attr.Null)
	if err := attr.Announce(reply, protocol, attr.Attr{Name: "queue_id", Value: f.ID}); err != nil {
		return 0, fmt.Errorf("uid=%d: write: %w", d.uid, maillog.Errno(err))
	}
	c := &copier{drop: d, in: record.NewReader(bufio.NewReader(d.env.Stdin)), out: f.Records(), limit: d.cfg.Int64("message_size_limit")}
	c.in.Raw, c.in.Max = true, d.cfg.Int("line_length_limit")
	result, err := c.message(ctx)
	if errors.Is(err, errCanceled) {
		d.discard()
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if result.Status == cleanup.OK {
		result = d.finish(ctx, c)
	} else {
		d.discard()
	}
	if err := reply.Int("status", int(result.Status)).Str("reason", result.Reason).Send(); err != nil {
		return 0, fmt.Errorf("uid=%d: write: %w", d.uid, maillog.Errno(err))
	}
	return int(result.Status) & 0xff, nil
}

// finish makes the message durable and visible, and wakes up pickup.
func (d *drop) finish(ctx context.Context, c *copier) cleanup.Result {
	err := c.out.Flush()
	if err == nil {
		d.mu.Lock()
		err = d.file.Commit()
		if err == nil {
			d.file = nil // it is no longer ours to remove
		}
		d.mu.Unlock()
	}
	if err != nil {
		d.log.Warn("uid=%d: %v", d.uid, maillog.Errno(err))
		d.discard()
		if errors.Is(err, syscall.EFBIG) {
			return cleanup.Result{Status: cleanup.StatusSize}
		}
		return cleanup.Result{Status: cleanup.StatusWrite}
	}
	service := d.cfg.String("pickup_service_name")
	ctx, cancel := context.WithTimeout(ctx, triggerTime)
	defer cancel()
	if err := trigger.Send(ctx, dial.Public, service, "W"); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		d.log.Warn("unable to look up %s/%s: %v", dial.Public, service, maillog.Errno(err))
	}
	return cleanup.Result{}
}

// errCanceled is a client that went away before the end of its message.
var errCanceled = errors.New("canceled")

// attributes are what a user may set, with the values that are taken; nil is
// any value.
var attributes = map[string][]string{
	"encoding":        {"7bit", "8bit", ""},
	"rewrite_context": {"local", "remote"},
	"envelope_id":     nil,
	"notify_flags":    nil,
	"dsn_orig_rcpt":   nil,
	"ret_flags":       nil,
	"create_time":     nil,
	"trace_flags":     nil,
}

// sections are what may follow each other, and the type that leads on.
var sections = []string{record.PostdropEnvelopeSet + "T", record.PostdropContentSet, record.PostdropExtractedSet}

// copier copies the records of one message.
type copier struct {
	*drop
	in        *record.Reader
	out       *record.Writer
	limit     int64 // message_size_limit, 0 is none
	sender    bool
	recipient bool
}

// message copies up to the end record. The Result says whether the message
// can be kept; an error means that no reply is due.
func (c *copier) message(ctx context.Context) (cleanup.Result, error) {
	now := time.Now()
	if err := c.out.Printf(record.TypeTime, "%d %d", now.Unix(), now.Nanosecond()/1000); err != nil {
		return c.writeError(err)
	}
	for section := 0; ; {
		t, data, err := c.in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return cleanup.Result{}, errCanceled
		case err != nil:
			return cleanup.Result{}, fmt.Errorf("uid=%d: malformed input", c.uid)
		case !t.In(sections[section]):
			return cleanup.Result{}, fmt.Errorf("uid=%d: unexpected record type: %d", c.uid, int(t))
		}
		result := c.one(ctx, t, data)
		if result.Status != cleanup.OK {
			return result, c.drain(t)
		}
		if t == record.Type(sections[section][0]) {
			if section++; section == len(sections) {
				if !c.sender || !c.recipient {
					return cleanup.Result{Status: cleanup.StatusBad}, nil
				}
				return cleanup.Result{}, nil
			}
		}
	}
}

// one copies one record.
func (c *copier) one(ctx context.Context, t record.Type, data []byte) cleanup.Result {
	switch t {
	case record.TypeTime: // the time is ours to say
		return cleanup.Result{}
	case record.TypeFrom:
		if result := c.checkSender(ctx, string(data)); result.Status != cleanup.OK {
			return result
		}
		c.sender = true
	case record.TypeRcpt:
		c.recipient = true
	case record.TypeAttr:
		return c.attribute(data)
	}
	return c.put(t, data)
}

func (c *copier) put(t record.Type, data []byte) cleanup.Result {
	result := cleanup.Result{}
	if err := c.out.Put(t, data); err != nil {
		result, _ = c.writeError(err)
	}
	if c.limit > 0 && c.out.Offset() > c.limit && t != record.TypeEnd {
		return cleanup.Result{Status: cleanup.StatusSize}
	}
	return result
}

func (c *copier) writeError(err error) (cleanup.Result, error) {
	c.log.Warn("uid=%d: %v", c.uid, maillog.Errno(err))
	return cleanup.Result{Status: cleanup.StatusWrite}, nil
}

func (c *copier) attribute(data []byte) cleanup.Result {
	name, value, err := record.ParseAttr(data)
	if err != nil {
		c.log.Warn("uid=%d: ignoring malformed record: %v: %.200s", c.uid, err, data)
		return cleanup.Result{}
	}
	values, known := attributes[name]
	ok := known && values == nil
	for _, v := range values {
		ok = ok || v == value
	}
	if !ok {
		c.log.Warn("uid=%d: ignoring attribute record: %.200s=%.200s", c.uid, name, value)
		return cleanup.Result{}
	}
	return c.put(record.TypeAttr, []byte(name+"="+value))
}

// checkSender asks local_login_sender_maps which senders the user may be.
func (c *copier) checkSender(ctx context.Context, sender string) cleanup.Result {
	if strings.ContainsRune(sender, 0) {
		return cleanup.Result{Status: cleanup.StatusBad, Reason: "NUL in FROM record"}
	}
	specs := c.cfg.String("local_login_sender_maps")
	if specs == "static:*" {
		return cleanup.Result{}
	}
	failed := cleanup.Result{Status: cleanup.StatusWrite, Reason: fmt.Sprintf("local_login_sender_maps table lookup error for '%s'", sender)}
	maps, err := table.OpenMaps(table.Env{Config: c.cfg, Log: c.log}, "local_login_sender_maps", specs, table.Lock|table.FoldFix|table.UTF8Request)
	if err != nil {
		c.log.Warn("%v", err)
		return failed
	}
	defer maps.Close()
	login := caller.Name(c.uid)
	if login == "unknown" {
		login = fmt.Sprintf("uid:%d", c.uid)
	}
	patterns, found, err := maps.Find(ctx, login)
	if err != nil {
		return failed
	}
	if found && permits(patterns, sender, c.cfg.String("empty_address_local_login_sender_maps_lookup_key")) {
		return cleanup.Result{}
	}
	return cleanup.Result{Status: cleanup.StatusNoPerm, Reason: fmt.Sprintf("not authorized to use sender='%s'", sender)}
}

// permits matches a sender with a list of patterns: "*", "<>", "@domain", or
// an address; an extension is not part of the comparison.
func permits(patterns, sender, empty string) bool {
	if sender == "" {
		sender = empty
	}
	_, domain, _ := strings.Cut(sender, "@")
	for _, p := range table.SplitList(patterns) {
		switch {
		case p == "*", strings.EqualFold(p, sender):
			return true
		case len(p) > 1 && p[0] == '@' && strings.EqualFold(p[1:], domain):
			return true
		}
	}
	return false
}

// drain reads what the client still sends, so that it gets to see the reply.
func (c *copier) drain(t record.Type) error {
	for t != record.TypeEnd {
		var err error
		if t, _, err = c.in.Next(); err != nil {
			return nil
		}
	}
	return nil
}
