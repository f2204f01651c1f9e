package milter

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/fdpass"
)

// Stream is a connection between smtpd and cleanup: its attribute lists, and
// the socket for descriptors. Raw's deadlines apply to descriptors, too.
type Stream struct {
	In  *attr.Reader
	Out *attr.Writer
	Raw syscall.Conn
}

// macroAttrs are the names under which macro lists cross the hand-over.
var macroAttrs = [stages]struct {
	name  string
	stage Stage
}{
	{"conn_macros", StageConnect}, {"helo_macros", StageHelo}, {"mail_macros", StageMail}, {"rcpt_macros", StageRcpt},
	{"data_macros", StageData}, {"eoh_macros", StageEndOfHeader}, {"eod_macros", StageEndOfMessage}, {"unk_macros", StageUnknown},
}

// Active is the number of filters with an open connection, those that Send
// passes: the number for record m.
func (f *Filters) Active() int {
	n := 0
	for _, m := range f.list {
		if m.conn != nil && (m.state == stateReady || m.state == stateEnvelope) {
			n++
		}
	}
	return n
}

// Send passes the open filters to cleanup, after record m with their number
// (spec ipc.md §2.1). Filters without a connection stay behind.
func (f *Filters) Send(s Stream) error {
	putMacros(s.Out, &f.cfg.Macros)
	s.Out.Int("size", len(f.cfg.Defaults))
	if len(f.cfg.Defaults) > 0 {
		s.Out.Hash(f.cfg.Defaults)
	}
	for _, m := range f.list {
		if m.conn == nil || m.state != stateReady && m.state != stateEnvelope {
			continue
		}
		if err := m.send(s); err != nil {
			return fmt.Errorf("cannot send milters to service %s: %w", s.In.From(), err)
		}
	}
	var status int
	if err := s.In.Scan(attr.Int("status", &status)); err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("cannot send milters to service %s: status %d", s.In.From(), status)
	}
	return nil
}

func putMacros(out *attr.Writer, names *MacroNames) {
	for _, a := range macroAttrs {
		out.Str(a.name, names[a.stage])
	}
}

func (m *filter) send(s Stream) error {
	m.conn.SetDeadline(time.Now().Add(m.command))
	if err := m.out.Flush(); err != nil {
		return err
	}
	own := 0
	if m.macros != nil {
		own = 1
	}
	s.Out.Str("milter_name", m.name).Int("milter_version", m.version).Int("milter_actions", int(m.actions)).
		Int("milter_events", int(m.events)).Int("milter_non_events", int(m.nonEvents)).Int("milter_state", int(m.state)).
		Int("milter_conn_timeout", int(m.connect/time.Second)).Int("milter_cmd_timeout", int(m.command/time.Second)).
		Int("milter_msg_timeout", int(m.content/time.Second)).Str("milter_action", m.action).Int("milter_macro_list", own)
	if own == 1 {
		putMacros(s.Out, m.macros)
	}
	if err := s.Out.Send(); err != nil {
		return err
	}
	if err := dummy(s); err != nil {
		return err
	}
	conn, ok := m.conn.(syscall.Conn)
	if !ok {
		return errors.New("no socket")
	}
	if err := fdpass.SendConn(s.Raw, conn); err != nil {
		return err
	}
	return dummy(s)
}

// dummy waits for the peer to be ready for, or done with, a descriptor.
func dummy(s Stream) error {
	var empty string
	return s.In.Scan(attr.Str("dummy", &empty))
}

// Receive takes the filters that smtpd passes after a record m with their
// number (cleanup). What smtpd says of macros and timeouts replaces cfg's.
func Receive(s Stream, count int, cfg Config) (f *Filters, err error) {
	if count < 0 || count > MaxCount {
		return nil, fmt.Errorf("bad milter count: %d", count)
	}
	f = &Filters{cfg: cfg}
	defer func() {
		if err != nil {
			f.Release()
			f = nil
		}
	}()
	if err := getMacros(s.In, &f.cfg.Macros); err != nil {
		return f, err
	}
	var size int
	if err := next(s.In, attr.Int("size", &size)); err != nil {
		return f, err
	}
	f.cfg.Defaults = nil
	if size > 0 {
		if err := next(s.In, attr.Hash(&f.cfg.Defaults)); err != nil {
			return f, err
		}
	}
	for range count {
		m := &filter{cfg: &f.cfg}
		f.list = append(f.list, m)
		if err := m.receive(s); err != nil {
			return f, err
		}
	}
	return f, s.Out.Int("status", 0).Send()
}

// next reads one attribute without the end of its list.
func next(in *attr.Reader, want attr.Field) error {
	a, more, err := in.Next()
	if err != nil {
		return err
	}
	var list attr.List
	if more {
		list = attr.List{a}
	}
	_, err = list.Scan(in.From(), want)
	return err
}

func getMacros(in *attr.Reader, names *MacroNames) error {
	for _, a := range macroAttrs {
		if err := next(in, attr.Str(a.name, &names[a.stage])); err != nil {
			return err
		}
	}
	return nil
}

func (m *filter) receive(s Stream) error {
	var version, actions, events, nonEvents, st, connect, command, content, own int
	for _, want := range []attr.Field{
		attr.Str("milter_name", &m.name), attr.Int("milter_version", &version), attr.Int("milter_actions", &actions),
		attr.Int("milter_events", &events), attr.Int("milter_non_events", &nonEvents), attr.Int("milter_state", &st),
		attr.Int("milter_conn_timeout", &connect), attr.Int("milter_cmd_timeout", &command), attr.Int("milter_msg_timeout", &content),
		attr.Str("milter_action", &m.action), attr.Int("milter_macro_list", &own),
	} {
		if err := next(s.In, want); err != nil {
			return err
		}
	}
	if own != 0 {
		m.macros = new(MacroNames)
		if err := getMacros(s.In, m.macros); err != nil {
			return err
		}
	}
	if _, more, err := s.In.Next(); err != nil || more {
		return fmt.Errorf("unexpected attribute from %s after milter %s", s.In.From(), m.name)
	}
	m.version, m.actions, m.events, m.nonEvents, m.state = version, uint32(actions), uint32(events), uint32(nonEvents), state(st)
	m.connect, m.command, m.content = time.Duration(connect)*time.Second, time.Duration(command)*time.Second, time.Duration(content)*time.Second
	if m.state != stateReady && m.state != stateEnvelope {
		return fmt.Errorf("milter %s: bad state %d", m.name, st)
	}
	if err := s.Out.Str("dummy", "").Send(); err != nil {
		return err
	}
	file, err := fdpass.Recv(s.Raw)
	if err != nil {
		return err
	}
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return err
	}
	m.use(conn)
	return s.Out.Str("dummy", "").Send()
}
