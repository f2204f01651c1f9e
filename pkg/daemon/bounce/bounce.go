// Package bounce is the daemon behind the services bounce, defer and trace
// (spec routing.md §5, ipc.md §2.6): it keeps a log of what became of the
// recipients of each message, and makes notices of it: non-delivery, delay
// and success reports as multipart/report (RFC 3462, 3464, 6533), posted through
// cleanup.
//
// The name of the service is the queue directory of its logs. An entry is on
// stable storage before its request is answered, a notice is in the queue before
// its log is removed; so whatever is killed, a recipient is reported at worst
// twice. What goes wrong is logged and answered with status -1, on which
// the caller keeps the message.
package bounce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/message/address"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/bouncelog"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// Main is the daemon; args[0] is the name it was called as.
func Main(args []string) int {
	d := new(daemon)
	return service.Run(service.Service{
		Name:  "bounce",
		Kind:  service.Single,
		Setup: d.setup,
		Serve: d.serve,
	}, args, os.Environ())
}

// Names of the service under which the program prints its templates, for
// postconf -t and -b.
const (
	dumpTemplates   = "dump_templates"
	expandTemplates = "expand_templates"
)

// Status values of replies.
const (
	done    = 0
	notDone = -1
)

// daemon is one bounce, defer or trace service.
type daemon struct {
	settings
	service   string // and queue directory of the logs
	conf      *conf.Config
	log       *maillog.Logger
	spool     *queue.Spool
	templates *templateSet
	now       func() time.Time
}

// settings are the parameters of the daemon.
type settings struct {
	hostname      string   // myhostname
	mailName      string   // mail_name
	doubleBounce  string   // double_bounce_sender@myhostname
	notifyClasses []string // notify_classes
	bounceRcpt    string   // bounce_notice_recipient
	doubleRcpt    string   // 2bounce_notice_recipient
	delayRcpt     string   // delay_notice_recipient
	sizeLimit     int64    // bounce_size_limit: larger messages come back as headers only; 0 is none
	queueLifetime time.Duration
	utf8          bool // smtputf8_enable
	threaded      bool // enable_threaded_bounces
	obsoleteFrom  bool // header_from_format = obsolete
	logOptions    bouncelog.Options
	ipcTimeout    time.Duration
	templateFile  string
}

func (d *daemon) setup(rt *service.Runtime) error {
	c := rt.Config
	d.conf, d.log, d.spool, d.service, d.now = c, rt.Log, rt.Queue, rt.ServiceName, time.Now
	d.settings = settings{
		hostname:      c.String("myhostname"),
		mailName:      c.String("mail_name"),
		doubleBounce:  c.String("double_bounce_sender") + "@" + c.String("myhostname"),
		notifyClasses: c.List("notify_classes"),
		bounceRcpt:    c.String("bounce_notice_recipient"),
		doubleRcpt:    c.String("2bounce_notice_recipient"),
		delayRcpt:     c.String("delay_notice_recipient"),
		sizeLimit:     int64(c.Int("bounce_size_limit")),
		queueLifetime: c.Duration("maximal_queue_lifetime"),
		utf8:          c.Bool("smtputf8_enable"),
		threaded:      c.Bool("enable_threaded_bounces"),
		obsoleteFrom:  c.String("header_from_format") == "obsolete",
		ipcTimeout:    c.Duration("ipc_timeout"),
		templateFile:  c.String("bounce_template_file"),
		logOptions: bouncelog.Options{
			OldStyle:     c.Bool("backwards_bounce_logfile_compatibility"),
			LockAttempts: c.Int("deliver_lock_attempts"),
			LockDelay:    c.Duration("deliver_lock_delay"),
		},
	}
	d.templates = newTemplates(configVars{c}, d.utf8, rt.Log)
	if d.service == dumpTemplates || d.service == expandTemplates {
		if !rt.StandAlone {
			return fmt.Errorf("service %s runs with -S only", d.service)
		}
		return d.templates.load(d.templateFile)
	}
	if !queue.ValidName(d.service) {
		return fmt.Errorf("bad queue name: %s", d.service)
	}
	return d.templates.load(d.templateFile)
}

// serve is one connection: announcement, request, reply.
func (d *daemon) serve(ctx context.Context, conn *service.Conn) error {
	switch d.service {
	case dumpTemplates:
		return d.templates.dump(conn)
	case expandTemplates:
		return d.templates.expandAll(conn)
	}
	return d.converse(ctx, dial.NewConn(conn, 0, d.service+" socket"))
}

func (d *daemon) converse(ctx context.Context, c *dial.Conn) error {
	if err := attr.Announce(c.Out, bounce.Protocol); err != nil {
		return err
	}
	list, err := c.In.List()
	if err == io.EOF {
		return nil
	}
	status := notDone
	if err == nil {
		var req bounce.Request
		if req, err = bounce.ParseRequest(list, c.In.From()); err == nil {
			status, err = d.handle(ctx, req)
		}
	}
	var broken *attr.Error
	if errors.As(err, &broken) {
		d.log.Warn("%v", broken)
		err = bounce.ErrMalformed
	}
	if err != nil {
		d.log.Warn("%v", err)
	}
	return bounce.WriteReply(c.Out, status)
}

// handle checks a request and does it. An error has the text to log; the reply
// is "not done" then.
func (d *daemon) handle(ctx context.Context, r bounce.Request) (int, error) {
	if !queue.ValidID(r.ID) {
		return notDone, fmt.Errorf("malformed queue id: %s", printable(r.ID, false))
	}
	if r.Kind != bounce.Append && !queue.ValidName(r.Queue) {
		return notDone, fmt.Errorf("malformed queue name: %s", printable(r.Queue, false))
	}
	d.mask(&r)
	var err error
	switch r.Kind {
	case bounce.Append:
		err = d.append(r)
	case bounce.Flush:
		err = d.flush(ctx, r)
	case bounce.Warn:
		err = d.warn(ctx, r)
	case bounce.Trace:
		err = d.trace(ctx, r)
	case bounce.FlushVERP:
		if len(r.VERP) != 2 {
			return notDone, fmt.Errorf("malformed verp delimiter string: %s", r.VERP)
		}
		err = d.flushVERP(ctx, r)
	case bounce.One:
		if d.service != "bounce" {
			return notDone, fmt.Errorf("wrong service name \"%s\" for one-recipient bouncing", d.service)
		}
		err = d.one(ctx, r)
	default:
		return notDone, fmt.Errorf("unknown command: %d", int(r.Kind))
	}
	if err != nil {
		if r.Flags&bounce.Clean != 0 {
			d.removeLog(r.ID)
		}
		return notDone, nil
	}
	return done, nil
}

// append logs one recipient. Addresses stand in the log in external form.
func (d *daemon) append(r bounce.Request) error {
	e := bouncelog.Entry{
		Rcpt:        address.Quote(r.Recipient.Address),
		OrigRcpt:    address.Quote(r.Recipient.Original),
		Offset:      r.Recipient.Offset,
		DSNOrigRcpt: r.Recipient.DSNOrig,
		Notify:      r.Recipient.Notify,
		Status:      r.Status,
	}
	if r.Recipient.Address == "" {
		e.Rcpt = ""
	}
	if r.Recipient.Original == "" {
		e.OrigRcpt = ""
	}
	err := bouncelog.Append(d.spool, d.service, r.ID, e, d.logOptions)
	switch {
	case errors.Is(err, bouncelog.ErrBusy):
		d.log.Warn("lock file %s %s: %v", d.service, r.ID, maillog.Errno(err))
	case err != nil:
		d.log.Warn("append file %s %s: %v", d.service, r.ID, maillog.Errno(err))
	}
	return err
}

// removeLog removes the log of a message; that there is none is no error.
func (d *daemon) removeLog(id string) error {
	err := bouncelog.Remove(d.spool, d.service, id)
	if err != nil {
		d.log.Warn("remove %s %s: %v", d.service, id, maillog.Errno(err))
	}
	return err
}

// notify tells whether notify_classes has one of the classes.
func (d *daemon) notify(classes ...string) bool {
	return slices.ContainsFunc(d.notifyClasses, func(c string) bool {
		return slices.ContainsFunc(classes, func(w string) bool { return strings.EqualFold(c, w) })
	})
}

// mask makes all strings of a request printable: they end in logs and mail.
func (d *daemon) mask(r *bounce.Request) {
	s := &r.Status
	for _, p := range []*string{&r.Encoding, &r.Sender, &r.EnvelopeID, &r.VERP,
		&r.Recipient.Address, &r.Recipient.Original, &r.Recipient.DSNOrig,
		&s.Code, &s.Action, &s.Reason, &s.DiagType, &s.DiagText, &s.MTAType, &s.MTAName} {
		*p = printable(*p, d.utf8)
	}
}

// printable replaces control characters, and what is not ASCII or (in UTF-8 mode)
// not UTF-8, by '?', byte for byte.
func printable(s string, utf8Mode bool) string {
	var b []byte // nil as long as nothing was replaced
	for i := 0; i < len(s); {
		n := 1
		if c := s[i]; c < ' ' || c >= 0x7f {
			if _, n = utf8.DecodeRuneInString(s[i:]); !utf8Mode || n == 1 {
				if b == nil {
					b = []byte(s)
				}
				b[i], n = '?', 1
			}
		}
		i += n
	}
	if b == nil {
		return s
	}
	return string(b)
}
