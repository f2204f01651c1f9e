package smtp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/agent"
)

// request is one delivery request in progress.
type request struct {
	ctx context.Context
	d   *daemon
	j   *agent.Job

	left  []*rcpt    // recipients without a result, in order
	final bool       // the server in hand is the last one: nobody is kept for another
	why   dsn.Status // what the last failure without a session was
	stats deliver.Stats

	sender      string // after generic mapping, internal form
	dest        destination
	load, store bool // policy of the connection cache
	stored      bool // a session is stored under the destination key
	completed   bool // a session ran to its normal end
	lineBroken  bool // "breaking line" was logged

	policies map[policyKey]policyResult // TLS policies of this delivery
}

// rcpt is a recipient on its way through the servers.
type rcpt struct {
	*deliver.Recipient
	mapped   string // after generic mapping, internal form
	accepted bool   // by RCPT, in the transfer in hand
}

func newRequest(ctx context.Context, d *daemon, j *agent.Job) *request {
	r := &request{ctx: ctx, d: d, j: j, stats: j.Stats, sender: j.Sender}
	r.stats.ConnSetup, r.stats.Done, r.stats.Reuse = time.Time{}, time.Time{}, 0
	list := make([]rcpt, len(j.Recipients))
	r.left = make([]*rcpt, len(j.Recipients))
	for i := range list {
		list[i] = rcpt{Recipient: &j.Recipients[i], mapped: j.Recipients[i].Address}
		r.left[i] = &list[i]
	}
	return r
}

func (r *request) run() error {
	if err := r.mapAddresses(); err != nil {
		return err
	}
	if !r.flagsAllowed() {
		return nil
	}
	list, err := r.d.destinations(r.j.NextHop)
	if err != nil {
		r.d.log.Warn("%s: %v", r.j.ID, err)
		r.finishAll("none", dsn.Status{Code: "4.3.5", Reason: err.Error()}, false)
		return nil
	}
	r.dest = list[0]
	r.cachePolicy(list[0])
	inFallback := false
	defer func() {
		if r.completed {
			r.j.ClearTrouble()
		}
	}()
	for i, dest := range list {
		if len(r.left) == 0 {
			return nil
		}
		inFallback = dest.fallback
		r.dest = dest
		if dest.port == smtpsPort && !r.d.tls.wrapper && r.d.helpful {
			r.d.log.Info("SMTPS wrappermode (TCP port 465) requires setting \"%stls_wrappermode = yes\", and \"%stls_security_level = encrypt\" (or stronger)", r.d.prefix, r.d.prefix)
		}
		found, why := r.resolve(dest)
		lastDest := found.last || i == len(list)-1
		if len(found.list) == 0 {
			r.why = why
		} else {
			if r.load {
				r.tryCached(&found, lastDest, i == 0)
			}
			r.tryServers(found, lastDest)
		}
		if found.last {
			break
		}
	}
	if len(r.left) > 0 {
		r.giveUp(list[0], inFallback)
	}
	return nil
}

// flagsAllowed handles flags=D and O, which want one recipient a request.
func (r *request) flagsAllowed() bool {
	f := r.d.flags
	for _, x := range []struct {
		on     bool
		letter byte
	}{{f.deliveredTo, 'D'}, {f.origTo, 'O'}} {
		if x.on && len(r.left) > 1 {
			r.d.log.Warn("flag `%c' requires %s_destination_recipient_limit = 1", x.letter, r.d.service)
			r.finishAll(r.d.service, dsn.Status{Code: "4.3.5", Reason: "mail system configuration error"}, false)
			return false
		}
	}
	if f.deliveredTo {
		loop, err := r.deliveredBefore(r.left[0].mapped)
		if err != nil {
			r.d.log.Warn("%s: %v", r.j.ID, err)
			r.j.Retry()
			return false
		}
		if loop {
			r.finishAll(r.d.service, dsn.Status{Code: "5.4.6", Reason: "mail forwarding loop for " + r.left[0].mapped}, false)
			return false
		}
	}
	return true
}

// tryServers goes through the servers of one destination (delivery.md §2.4).
func (r *request) tryServers(found servers, lastDest bool) {
	addresses, sessions := 0, 0
	for i := 0; i < len(found.list) && len(r.left) > 0; i++ {
		srv := found.list[i]
		last := i == len(found.list)-1
		addresses++
		if addresses == r.d.addressLimit {
			last = true
		}
		r.final = last && lastDest
		if r.load && srv.pref != found.bestPref && r.tryCache(r.endpointKey(srv), nil) {
			if last {
				return
			}
			continue
		}
		policy, ok := r.tlsPolicyFor(srv, false)
		if !ok {
			if last {
				return
			}
			continue
		}
	again:
		s := r.connect(srv, policy, srv.pref == found.bestPref)
		if s != nil && s.retryPlain && len(r.left) > 0 {
			policy = plaintext
			r.final = last && lastDest
			goto again
		}
		if s != nil && s.established {
			wasLast := last
			sessions++
			if sessions == r.d.sessionLimit {
				last = true
				r.final = lastDest
			}
			if r.use(s) && len(r.left) > 0 {
				policy, last = plaintext, wasLast
				sessions--
				r.final = last && lastDest
				goto again
			}
		}
		if last {
			return
		}
	}
}

// use has a mail transaction on an established session and then stores or
// closes it: s is no longer the caller's. It returns true if the server is to
// be tried again without TLS.
func (r *request) use(s *session) (retryPlain bool) {
	r.stats.Reuse = s.reuse
	ok := r.transfer(s)
	s.notice(r)
	retryPlain = s.retryPlain
	if ok {
		r.completed = true
	}
	if ok && !s.dead && s.willCache {
		r.storeSession(s)
		return retryPlain
	}
	s.close()
	return retryPlain
}

// giveUp ends the recipients for which no server worked.
func (r *request) giveUp(first destination, inFallback bool) {
	why := r.why
	hard := why.Code != "" && why.Code[0] == '5'
	const unavailable = "server unavailable or unable to receive mail"
	switch {
	case why.Code == "":
		why = dsn.Status{Code: "4.3.0", Reason: unavailable}
	case hard && inFallback:
		r.d.log.Warn("%sfallback_relay configuration problem", r.d.prefix)
		why.Code = "4.3.5"
	case hard && !r.d.lmtp && first.text == r.d.relayhost:
		r.d.log.Warn("relayhost configuration problem")
		why.Code = "4.3.5"
	case strings.HasSuffix(why.Code, ".4.6") && !r.d.lmtp && r.d.bestMX != "":
		for _, rc := range r.left {
			if r.j.Pass(r.ctx, r.d.bestMX, *rc.Recipient, r.j.Outcome(rc.Recipient, agent.Result{Relay: "none"})) {
				r.j.Done(rc.Recipient)
			} else {
				r.j.Retry()
			}
		}
		r.left = nil
		return
	}
	r.final = true
	r.finishAll("none", why, true)
}

// finishAll reports all recipients that are left as failed with one status.
func (r *request) finishAll(relay string, why dsn.Status, throttle bool) {
	if r.stats.ConnSetup.IsZero() {
		r.stats.ConnSetup = time.Now()
	}
	for _, rc := range r.left {
		r.failed(rc, relay, why)
	}
	r.left = nil
	if throttle && r.soft(why) {
		r.j.Trouble(why)
	}
}

// soft reports whether a failure is one that another server, or a later
// attempt, may not have.
func (r *request) soft(why dsn.Status) bool {
	return why.Code == "" || why.Code[0] == '4' || r.d.softBounce
}

// failed reports one recipient as bounced or deferred.
func (r *request) failed(rc *rcpt, relay string, why dsn.Status) {
	stats := r.stats
	r.j.Failed(r.ctx, rc.Recipient, agent.Result{Relay: relay, Status: why, Stats: &stats})
}

// drop takes a recipient off the list.
func (r *request) drop(rc *rcpt) {
	for i, x := range r.left {
		if x == rc {
			r.left = append(r.left[:i:i], r.left[i+1:]...)
			return
		}
	}
}

// sessionFailed is trouble with a session that concerns all recipients left.
func (r *request) sessionFailed(s *session, why dsn.Status, throttle bool) {
	r.why = why
	if throttle {
		s.forbidCache = true
	}
	if r.stats.ConnSetup.IsZero() {
		r.stats.ConnSetup = time.Now()
	}
	if r.soft(why) && !r.final {
		r.d.log.Info("%s: %s", r.j.ID, why.Reason)
		return
	}
	r.finishAll(s.server.relay(), why, throttle)
}

// lostSession is a connection that broke or fell silent.
func (r *request) lostSession(s *session, err error, phase string) {
	if s.tls != nil {
		r.mayRetryPlain(s)
	}
	r.sessionFailed(s, s.broken(err, phase), true)
}

// recipientFailed is trouble with one recipient.
func (r *request) recipientFailed(s *session, rc *rcpt, why dsn.Status) {
	if r.soft(why) && !r.final {
		r.d.log.Info("%s: %s", r.j.ID, why.Reason)
		return
	}
	r.failed(rc, s.server.relay(), why)
	r.drop(rc)
}

// recipientDone reports a delivery.
func (r *request) recipientDone(s *session, rc *rcpt, st dsn.Status) {
	if rc.Notify&dsn.NotifySuccess != 0 && s.features&featDSN != 0 {
		rc.Notify &^= dsn.NotifySuccess
	}
	st.Action = "relayed"
	if r.d.lmtp && r.d.flags.final {
		st.Action = "delivered"
	}
	stats := r.stats
	r.j.Sent(r.ctx, rc.Recipient, agent.Result{Relay: s.server.relay(), Status: st, Stats: &stats})
	r.drop(rc)
}

// mapAddresses applies the generic maps to the envelope.
func (r *request) mapAddresses() error {
	if r.d.tables.generic.Empty() {
		return nil
	}
	var err error
	if r.sender != "" {
		if r.sender, err = r.generic(r.sender); err != nil {
			return err
		}
	}
	for _, rc := range r.left {
		if rc.mapped, err = r.generic(rc.mapped); err != nil {
			return err
		}
	}
	return nil
}

// quote is the form of an address in MAIL and RCPT.
func (r *request) quote(addr string) string {
	if !r.d.quoteEnvelope || addr == "" {
		return addr
	}
	return address.QuoteSMTP(addr)
}

// isProbe reports whether the message is an address probe: no content is sent.
func (r *request) isProbe() bool { return r.j.Flags&deliver.Probe != 0 }

func status(code, format string, a ...any) dsn.Status {
	return dsn.Status{Code: code, Reason: fmt.Sprintf(format, a...)}
}
