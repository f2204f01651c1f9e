package qmgr

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"posthaste/pkg/daemon/qmgr/sched"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
)

// deliver gets a connection to an agent and a request for it from the owner,
// and sees it through (spec §4.4).
func (m *manager) deliver(t *sched.Transport, delay time.Duration) {
	conn := m.lines.take(t.Name)
	kept := conn != nil
	if !kept {
		var ok bool
		if conn, ok = m.connect(t); !ok {
			m.post(func() { m.sched.ConnectFailed(t, sched.Reason{Status: "4.3.0", Text: "mail transport unavailable"}) })
			return
		}
	}
	if delay > 0 && !sleep(m.ctx, delay) {
		conn.Close()
		return
	}
	next := make(chan *sched.Entry, 1)
	m.post(func() { next <- m.sched.Ready(t) })
	var e *sched.Entry
	select {
	case e = <-next:
	case <-m.ctx.Done():
	}
	if e == nil {
		conn.Close()
		return
	}
	r := m.transact(conn, kept, t, e)
	m.post(func() { m.sched.Done(e, r) })
}

// transact is one request and its reply; afterwards the connection is kept or
// closed.
func (m *manager) transact(conn *dial.Conn, kept bool, t *sched.Transport, e *sched.Entry) sched.Result {
	release := conn.Bind(m.ctx)
	var r sched.Result
	if !kept {
		r = m.exchange(conn, t.Name, e)
	} else if answer, ok := m.overLine(conn, t.Name, e); ok {
		r = answer
	} else {
		release()
		conn.Close()
		if conn, ok = m.connect(t); !ok {
			return sched.Result{Outcome: sched.Unsent}
		}
		return m.transact(conn, false, t, e)
	}
	if release() && r.Outcome == sched.Replied {
		m.lines.put(t.Name, conn)
	} else {
		conn.Close()
	}
	return r
}

// connect opens a connection and waits for the greeting.
func (m *manager) connect(t *sched.Transport) (*dial.Conn, bool) {
	conn, err := m.agents.Dial(m.ctx, dial.Private, t.Name)
	if err != nil {
		if m.ctx.Err() == nil {
			m.log.Warn("connect to transport %s/%s: %s", dial.Private, t.Name, dial.Reason(err))
		}
		return nil, false
	}
	release := conn.Bind(m.ctx)
	err = conn.Expect(deliver.Protocol)
	release()
	if err == nil {
		return conn, true
	}
	conn.Close()
	switch {
	case m.ctx.Err() != nil:
	case errors.Is(err, syscall.ECONNRESET):
		m.log.Warn("%s/%s socket: premature disconnect", dial.Private, t.Name)
	case errors.Is(err, os.ErrDeadlineExceeded):
		m.log.Fatal("timeout connecting to transport: %s", t.Name)
	default:
		m.warnSocket(t.Name, err)
	}
	return nil, false
}

// warnSocket tells how an agent broke the protocol.
func (m *manager) warnSocket(transport string, err error) {
	if broken := (*attr.Error)(nil); errors.As(err, &broken) {
		m.log.Warn("%v", broken)
	}
	m.log.Warn("%s/%s socket: malformed response", dial.Private, transport)
}

// exchange sends a request and reads the final reply.
func (m *manager) exchange(conn *dial.Conn, transport string, e *sched.Entry) sched.Result {
	if err := deliver.WriteRequest(conn.Out, m.request(e)); err != nil {
		if m.ctx.Err() == nil {
			m.log.Warn("write to process (%s): %s", transport, dial.Reason(err))
		}
		return sched.Result{Outcome: sched.Unsent}
	}
	return m.reply(conn, transport, e)
}

// reply reads the final reply.
func (m *manager) reply(conn *dial.Conn, transport string, e *sched.Entry) sched.Result {
	reply, err := deliver.ReadReply(conn.In)
	switch {
	case err == nil:
	case m.ctx.Err() != nil:
		return sched.Result{Outcome: sched.Unreplied}
	case errors.Is(err, os.ErrDeadlineExceeded):
		m.log.Fatal("%s: timeout receiving delivery status from transport: %s", e.Message.ID, transport)
		return sched.Result{Outcome: sched.Unreplied}
	default:
		m.warnSocket(transport, err)
		return sched.Result{Outcome: sched.Unreplied}
	}
	r := sched.Result{Incomplete: reply.Status != deliver.Done, HasReason: reply.Trouble.Reason != ""}
	if st := reply.Trouble; st.Code != "" {
		if !dsn.Valid(st.Code) {
			st.Code = "4.0.0"
		}
		if st.Reason == "" {
			st.Reason, r.HasReason = "unknown error", r.Incomplete
		}
		r.Destination = &sched.Reason{Status: st.Code, Text: "delivery temporarily suspended: " + st.Reason}
	}
	return r
}

// request is the delivery request for an entry.
func (m *manager) request(e *sched.Entry) *deliver.Request {
	msg := e.Message.Info.(*message)
	env := msg.env
	r := &deliver.Request{
		Flags:          deliver.Success | deliver.Bounce | env.Trace,
		Queue:          queue.Active,
		ID:             msg.ID,
		DataOffset:     env.Size.DataOffset,
		DataSize:       env.Size.ContentLength,
		NextHop:        e.Nexthop(),
		Encoding:       env.Encoding,
		SMTPUTF8:       int(env.Size.UTF8Flags),
		Sender:         env.Sender,
		EnvelopeID:     env.EnvelopeID,
		Ret:            env.Ret,
		Stats:          deliver.Stats{Incoming: env.Arrival, Active: msg.Activated},
		ClientName:     env.Client.Name,
		ClientAddress:  env.Client.Address,
		ClientPort:     env.Client.Port,
		ClientProtocol: env.Client.Protocol,
		ClientHelo:     env.Client.Helo,
		SASLMethod:     env.SASLMethod,
		SASLUsername:   env.SASLUsername,
		SASLSender:     env.SASLSender,
		LogIdent:       env.LogIdent,
		RewriteContext: env.RewriteContext,
		Recipients:     e.Recipients,
	}
	if e.CacheLoad {
		r.Flags |= deliver.ConnLoad
	}
	if e.CacheStore {
		r.Flags |= deliver.ConnStore
	}
	utf8Rcpt := m.utf8 && hasUTF8(e.Recipients)
	if utf8Rcpt {
		r.SMTPUTF8 |= 8
	}
	if env.VERP != "" && len(e.Recipients) == 1 {
		r.Sender = verpSender(env.Sender, e.Recipients[0], env.VERP)
		if utf8Rcpt {
			r.SMTPUTF8 |= 4
		}
	}
	return r
}

// verpSender puts the recipient into the sender: local d1 rcptlocal d2 rcptdomain
// @domain.
func verpSender(sender string, rcpt deliver.Recipient, delimiters string) string {
	addr := rcpt.Original
	if addr == "" {
		addr = rcpt.Address
	}
	local, domain, ok := cutLast(sender)
	verp := local + delimiters[:1]
	rlocal, rdomain, rok := cutLast(addr)
	verp += rlocal
	if rok {
		verp += delimiters[1:2] + rdomain
	}
	if ok {
		verp += "@" + domain
	}
	return verp
}

func cutLast(addr string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(addr, '@')
	if i < 0 {
		return addr, "", false
	}
	return addr[:i], addr[i+1:], true
}

func hasUTF8(rcpts []deliver.Recipient) bool {
	for i := range rcpts {
		a := rcpts[i].Address
		for j := 0; j < len(a); j++ {
			if a[j] >= 0x80 {
				if utf8.ValidString(a) {
					return true
				}
				break
			}
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
