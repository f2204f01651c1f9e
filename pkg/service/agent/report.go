package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// Outcome is what became of one recipient.
type Outcome struct {
	Message bounce.Message // the sender may be another than the request's
	Flags   deliver.Flags  // of the request
	Stats   deliver.Stats
	Rcpt    deliver.Recipient
	Relay   string // "none", or what relay= shows
	Status  dsn.Status
}

// Reporter tells the bounce, defer, trace, verify and flush services and the log
// what became of a recipient (delivery.md §1.2). It is for agents, and for whoever
// else decides about a recipient (the queue manager). It marks nothing in the
// queue file: that comes after it, and only if it says "done". Safe for
// concurrent use.
type Reporter struct {
	Services      bounce.Services
	SoftBounce    bool // soft_bounce
	NegativeCache bool // address_verify_negative_cache
	Resolution    int  // delay_logging_resolution_limit
	InternalForm  bool // info_log_address_format = internal

	Filter       *table.Maps      // delivery status filter; nil is none
	FlushDomains *table.MatchList // fast_flush_domains; nil is none
	Bounce       *bounce.Client
	Verify       *verify.Client
	Flush        flush.Client
	Log          *maillog.Logger
	Now          func() time.Time // nil is time.Now
}

// NewReporter makes a reporter as main.cf says. filter is the name of the
// parameter with the delivery status filter, "" for none.
func NewReporter(c *conf.Config, log *maillog.Logger, filter string) (*Reporter, error) {
	dialer := dial.Dialer{Timeout: c.Duration("ipc_timeout"), Log: log}
	r := &Reporter{
		Services:      bounce.ServicesFrom(c),
		SoftBounce:    c.Bool("soft_bounce"),
		NegativeCache: c.Bool("address_verify_negative_cache"),
		Resolution:    c.Int("delay_logging_resolution_limit"),
		InternalForm:  c.String("info_log_address_format") == "internal",
		Bounce:        &bounce.Client{Dialer: dialer},
		Verify:        verify.New(verify.FromConfig(c, log)),
		Flush:         flush.Client{Dialer: dialer, Service: c.String("flush_service_name")},
		Log:           log,
	}
	env := table.Env{Config: c, Log: log, Daemon: true}
	var err error
	if filter != "" {
		if specs := c.String(filter); specs != "" {
			if r.Filter, err = table.OpenMaps(env, filter, specs, table.Lock|table.FoldFix); err != nil {
				return nil, err
			}
		}
	}
	if patterns := c.String("fast_flush_domains"); patterns != "" {
		if r.FlushDomains, err = table.NewMatchList(env, "fast_flush_domains", patterns, table.MatchDomain, 0); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// TableChanged tells which of the reporter's tables has changed.
func (r *Reporter) TableChanged() (name string, changed bool) {
	if r.Filter != nil {
		if name, changed = r.Filter.Changed(); changed {
			return name, true
		}
	}
	if r.FlushDomains != nil {
		return r.FlushDomains.Changed()
	}
	return "", false
}

// Sent reports a success. Status.Action is "delivered" unless the agent chose
// another. The recipient is done if it returns true.
func (r *Reporter) Sent(ctx context.Context, o Outcome) (done bool) {
	o.Status = r.sane(o.Status, '2', "2.0.0", "sent")
	o.Status = r.filter(ctx, o.Status)
	if o.Status.Action == "" {
		o.Status.Action = "delivered"
	}
	if o.Flags&deliver.Probe != 0 {
		return r.probed(ctx, o, verify.Deliverable)
	}
	n := o.Rcpt.Notify
	ok := true
	if o.Flags&deliver.Record != 0 || o.Flags&deliver.DelaySent != 0 && (n == 0 || n&dsn.NotifyDelay != 0) {
		ok = r.trace(ctx, o)
	}
	if ok && n&dsn.NotifySuccess != 0 {
		ok = r.trace(ctx, o)
	}
	if !ok {
		o.Status = dsn.Status{Code: "4.3.0", Reason: o.Message.ID + ": trace service failed"}
		return r.deferred(ctx, o)
	}
	r.log(o, "sent")
	return true
}

// Bounced reports a permanent failure. With soft_bounce, or when the bounce
// service fails, the recipient is deferred instead.
func (r *Reporter) Bounced(ctx context.Context, o Outcome) (done bool) {
	o.Status = r.sane(o.Status, '5', "5.0.0", "bounce_append")
	o.Status = r.filter(ctx, o.Status)
	return r.failed(ctx, o)
}

func (r *Reporter) failed(ctx context.Context, o Outcome) bool {
	if o.Status.Code[0] == '4' {
		return r.deferred(ctx, o)
	}
	o.Status.Action = "failed"
	switch {
	case o.Flags&deliver.Probe != 0:
		return r.probed(ctx, o, verify.Undeliverable)
	case r.SoftBounce:
		return r.softBounce(ctx, o)
	}
	err := r.Bounce.Append(ctx, r.Services.Bounce, o.Message.ID, traceFlags(o), o.Rcpt, o.Status)
	return r.bounced(ctx, o, err)
}

// bounced ends Bounced and BouncedOne after the bounce service has answered.
func (r *Reporter) bounced(ctx context.Context, o Outcome, err error) bool {
	if err != nil || o.Flags&deliver.Record != 0 && !r.trace(ctx, o) {
		o.Status.Code, o.Status.Reason = "4.3.0", "bounce or trace service failure"
		return r.deferred(ctx, o)
	}
	r.log(o, "bounced")
	return true
}

// BouncedOne is Bounced for a recipient whose sender was replaced: the notice
// goes to Message.Sender at once, without a log (delivery.md §3.10).
func (r *Reporter) BouncedOne(ctx context.Context, o Outcome) (done bool) {
	o.Status = r.sane(o.Status, '5', "5.0.0", "bounce_one")
	o.Status = r.filter(ctx, o.Status)
	if o.Flags&deliver.Probe != 0 || r.SoftBounce || o.Status.Code[0] == '4' {
		return r.failed(ctx, o)
	}
	o.Status.Action = "failed"
	return r.bounced(ctx, o, r.Bounce.One(ctx, r.Services.Bounce, traceFlags(o), o.Message, o.Rcpt, o.Status))
}

// softBounce gives the administrator time to repair what broke.
func (r *Reporter) softBounce(ctx context.Context, o Outcome) bool {
	o.Status.Code = "4" + o.Status.Code[1:]
	o.Status.Action = "delayed"
	if r.Bounce.Append(ctx, r.Services.Defer, o.Message.ID, traceFlags(o), o.Rcpt, o.Status) != nil {
		r.Log.Warn("%s: %s service failure", o.Message.ID, r.Services.Defer)
	}
	r.log(o, "SOFTBOUNCE")
	return false
}

// Deferred reports a temporary failure. It returns true only for a probe, or when
// the status filter made a permanent failure of it.
func (r *Reporter) Deferred(ctx context.Context, o Outcome) (done bool) {
	o.Status = r.sane(o.Status, '4', "4.0.0", "defer_append")
	o.Status = r.filter(ctx, o.Status)
	if o.Status.Code[0] == '5' {
		return r.failed(ctx, o)
	}
	return r.deferred(ctx, o)
}

func (r *Reporter) deferred(ctx context.Context, o Outcome) bool {
	o.Status.Action = "delayed"
	if o.Flags&deliver.Probe != 0 {
		return r.probed(ctx, o, verify.Deferred)
	}
	if r.Bounce.Append(ctx, r.Services.Defer, o.Message.ID, traceFlags(o), o.Rcpt, o.Status) != nil {
		r.Log.Warn("%s: %s service failure", o.Message.ID, r.Services.Defer)
	}
	r.log(o, "deferred")
	if o.Flags&deliver.Record != 0 {
		r.trace(ctx, o)
	}
	r.addFlush(ctx, o)
	return false
}

// probed reports the result of an address probe, which delivers nothing.
func (r *Reporter) probed(ctx context.Context, o Outcome, result verify.Result) bool {
	word := "deliverable"
	if result != verify.Deliverable {
		word = "undeliverable"
	}
	o.Status.Action = word
	if o.Flags&deliver.MTAVerify == 0 {
		if !r.trace(ctx, o) {
			return false
		}
		r.log(o, word)
		return true
	}
	if result != verify.Deliverable && !r.NegativeCache {
		r.log(o, "undeliverable-but-not-cached")
		return true
	}
	if err := r.update(ctx, o, result); err != nil {
		r.Log.Warn("%s: verify service failure", o.Message.ID)
		return false
	}
	r.log(o, word)
	return true
}

func (r *Reporter) update(ctx context.Context, o Outcome, result verify.Result) error {
	reason := o.Status.Reason
	if o.Rcpt.Original != "" {
		if err := r.Verify.Update(ctx, o.Rcpt.Original, result, reason); err != nil {
			return err
		}
	}
	if o.Rcpt.Address == o.Rcpt.Original {
		return nil
	}
	return r.Verify.Update(ctx, o.Rcpt.Address, result, reason)
}

// trace adds the outcome to the trace log of the message.
func (r *Reporter) trace(ctx context.Context, o Outcome) bool {
	o.Status.Reason = viaRelay(o)
	return r.Bounce.Append(ctx, r.Services.Trace, o.Message.ID, traceFlags(o), o.Rcpt, o.Status) == nil
}

// viaRelay is the reason in trace records.
func viaRelay(o Outcome) string {
	if o.Relay == "none" || o.Relay == "" {
		return o.Status.Reason
	}
	return "delivery via " + o.Relay + ": " + o.Status.Reason
}

func traceFlags(o Outcome) bounce.Flags { return bounce.Flags(o.Flags & deliver.Trace) }

// addFlush tells the flush service what is waiting for a site.
func (r *Reporter) addFlush(ctx context.Context, o Outcome) {
	at := strings.LastIndexByte(o.Rcpt.Address, '@')
	if r.FlushDomains == nil || at < 0 {
		return
	}
	domain := o.Rcpt.Address[at+1:]
	if match, err := r.FlushDomains.Match(ctx, domain); err != nil || !match {
		return
	}
	r.Flush.Add(ctx, domain, o.Message.ID)
}

// sane replaces a status code of the wrong class.
func (r *Reporter) sane(s dsn.Status, class byte, fallback, who string) dsn.Status {
	if !dsn.Valid(s.Code) || s.Code[0] != class {
		r.Log.Warn("%s: ignoring dsn code \"%s\"", who, s.Code)
		s.Code = fallback
	}
	return s
}

// filter applies the delivery status filter, which may turn 4 into 5 and the
// other way round (delivery.md §1.3).
func (r *Reporter) filter(ctx context.Context, s dsn.Status) dsn.Status {
	if r.Filter == nil {
		return s
	}
	result, found, err := r.Filter.FindFlags(ctx, s.Code+" "+s.Reason, 0)
	if err != nil || !found {
		return s
	}
	code, text := dsn.Split(result, "")
	if code == "" || (code[0] == '2') != (s.Code[0] == '2') {
		r.Log.Warn("%s: bad status code: %s", r.Filter.Title(), result)
		return s
	}
	s.Code, s.Reason = code, text
	switch code[0] {
	case '4':
		s.Action = "delayed"
	case '5':
		s.Action = "failed"
	}
	return s
}

// log writes the delivery log line (delivery.md §1.1).
func (r *Reporter) log(o Outcome, word string) {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: to=<%s>", o.Message.ID, r.show(o.Rcpt.Address))
	if o.Rcpt.Original != "" && !strings.EqualFold(o.Rcpt.Original, o.Rcpt.Address) {
		fmt.Fprintf(&b, ", orig_to=<%s>", r.show(o.Rcpt.Original))
	}
	relay := o.Relay
	if relay == "" {
		relay = "none"
	}
	fmt.Fprintf(&b, ", relay=%s", relay)
	if o.Stats.Reuse > 0 {
		fmt.Fprintf(&b, ", conn_use=%d", o.Stats.Reuse+1)
	}
	total, parts := o.Stats.Delays(now(), r.Resolution)
	fmt.Fprintf(&b, ", delay=%s, delays=%s, dsn=%s, status=%s (%s)", total, parts, o.Status.Code, word, o.Status.Reason)
	r.Log.Info("%s", b.String())
}

func (r *Reporter) show(addr string) string {
	if r.InternalForm || addr == "" {
		return addr
	}
	return address.Quote(addr)
}
