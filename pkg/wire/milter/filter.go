package milter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/ipc/dial"
)

// state is what a filter is ready for; the numbers cross the hand-over.
type state int

const (
	stateError    state = iota + 1 // failed: what failure means is decided for the session
	stateClosed                    // not connected
	stateReady                     // between messages
	stateEnvelope                  // in a message's envelope
	stateMessage                   // in a message's content
	stateAcceptSession
	stateAcceptMessage
	stateRejectSession
)

// filter is one Milter.
type filter struct {
	cfg      *Config
	name     string // "inet:127.0.0.1:8891"
	connect  time.Duration
	command  time.Duration
	content  time.Duration
	protocol string
	action   string
	macros   *MacroNames // the filter's own lists, nil if it has none

	state     state
	version   int
	actions   uint32
	events    uint32 // what the filter can do without
	nonEvents uint32 // what its protocol version does not know
	decided   Result // for the session: stateError, stateRejectSession, or a Hold
	skipping  byte   // command of the events it wants no more of, of this message
	deadline  time.Time

	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
}

func (m *filter) warn(format string, a ...any) {
	if m.cfg.Log != nil {
		m.cfg.Log.Warn(format, a...)
	}
}

// endpoint splits "unix:path" and "inet:host:port".
func (m *filter) endpoint() (network, address string, err error) {
	kind, rest, ok := strings.Cut(m.name, ":")
	switch {
	case ok && kind == "unix":
		return "unix", rest, nil
	case ok && kind == "inet":
		if i := strings.IndexByte(rest, '@'); i >= 0 { // port@host
			return "tcp", net.JoinHostPort(strings.Trim(rest[i+1:], "[]"), rest[:i]), nil
		}
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return "tcp", net.JoinHostPort("localhost", rest), nil
		}
		return "tcp", net.JoinHostPort(strings.Trim(rest[:i], "[]"), rest[i+1:]), nil
	}
	return "", "", fmt.Errorf("invalid transport name: %s in Milter service: %s", kind, m.name)
}

// open connects and negotiates. Trouble is in the state.
func (m *filter) open(ctx context.Context) {
	if m.state != stateClosed {
		return
	}
	network, address, err := m.endpoint()
	if err != nil {
		m.warn("%v", err)
		m.confError()
		return
	}
	version, events, ok := m.proposal()
	if !ok {
		m.confError()
		return
	}
	conn, err := (&net.Dialer{Timeout: m.connect}).DialContext(ctx, network, address)
	if err != nil {
		m.unreachable(address, err)
		m.commError()
		return
	}
	m.use(conn)
	m.negotiate(version, events)
}

// unreachable logs why there is no connection.
func (m *filter) unreachable(address string, err error) {
	text := dial.Reason(err)
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		text = "Name or service not known"
		if unknown.Temporary() {
			text = "Temporary failure in name resolution"
		}
		m.warn("host or service %s not found: %s", address, text)
		text = "Cannot assign requested address"
	}
	m.warn("connect to Milter service %s: %s", m.name, text)
}

func (m *filter) use(conn net.Conn) {
	m.conn, m.in, m.out = conn, bufio.NewReaderSize(conn, 4096), bufio.NewWriterSize(conn, 4096)
}

// proposal is what milter_protocol says to offer.
func (m *filter) proposal() (version int, events uint32, ok bool) {
	extra := uint32(0)
	for _, word := range strings.FieldsFunc(m.protocol, isSeparator) {
		if strings.EqualFold(word, "no_header_reply") {
			extra |= silentHeader
			continue
		}
		n, err := strconv.Atoi(word)
		if mask, known := versions[n]; err == nil && known {
			version, events = n, mask
			continue
		}
		m.warn("milter %s: bad protocol information: %s", m.name, m.protocol)
		return 0, 0, false
	}
	if version == 0 {
		m.warn("milter %s: no protocol version information", m.name)
		return 0, 0, false
	}
	return version, events | extra, true
}

func (m *filter) negotiate(version int, events uint32) {
	var offer [12]byte
	binary.BigEndian.PutUint32(offer[0:], uint32(version))
	binary.BigEndian.PutUint32(offer[4:], allActions)
	binary.BigEndian.PutUint32(offer[8:], events)
	m.conn.SetDeadline(time.Now().Add(m.command))
	err := writePacket(m.out, cmdNegotiate, offer[:])
	if err == nil {
		err = m.out.Flush()
	}
	var p packet
	if err == nil {
		p, err = readPacket(m.in)
	}
	if err != nil {
		m.unreadable("SMFIC_OPTNEG", err)
		m.warn("milter %s: read error in initial handshake", m.name)
		m.commError()
		return
	}
	if p.command != cmdNegotiate {
		m.warn("milter %s: unexpected reply \"%c\" in initial handshake", m.name, p.command)
		m.commError()
		return
	}
	if !m.agree(version, p.data) {
		m.commError()
		return
	}
	m.state = stateReady
}

// agree takes the filter's side of the negotiation.
func (m *filter) agree(version int, data []byte) bool {
	theirs, data, ok1 := cutNumber(data)
	actions, data, ok2 := cutNumber(data)
	events, data, ok3 := cutNumber(data)
	if !ok1 || !ok2 || !ok3 {
		m.warn("milter %s: input packet too short for network long", m.name)
		m.warn("milter %s: read error in initial handshake", m.name)
		return false
	}
	if int64(theirs) > int64(version) {
		m.warn("milter %s: protocol version %d conflict with MTA protocol version %d", m.name, theirs, version)
		return false
	}
	if actions&^allActions != 0 {
		m.warn("milter %s: request mask 0x%x conflict with MTA request mask 0x%x", m.name, actions, allActions)
		return false
	}
	known, ok := versions[int(theirs)]
	if !ok {
		if theirs != oddVersion {
			m.warn("milter %s: unexpected protocol version %d", m.name, theirs)
		}
		known = versions[version]
	}
	m.version, m.actions, m.events, m.nonEvents = int(theirs), actions, events, versions[6]&^known
	for len(data) > 0 {
		kind, rest, ok := cutNumber(data)
		list, rest, ok2 := cutString(rest)
		if !ok || !ok2 {
			m.warn("milter8_read_data: milter %s: missing string null termimator", m.name) // sic
			return false
		}
		data = rest
		m.setMacros(kind, list)
	}
	return true
}

func (m *filter) setMacros(kind uint32, list string) {
	if kind > uint32(StageEndOfHeader) {
		m.warn("milter %s: ignoring unknown macro type %d", m.name, kind)
		return
	}
	if m.macros == nil {
		own := m.cfg.Macros
		m.macros = &own
	}
	m.macros[kind] = list
}

// unreadable logs why a reply to an event could not be had; trouble in sending
// the event shows here, too.
func (m *filter) unreadable(event string, err error) {
	switch {
	case errors.Is(err, errLength):
		m.warn("milter %s: %v", m.name, err)
	case err == io.EOF || err == io.ErrUnexpectedEOF || errors.Is(err, unix.ECONNRESET):
		m.warn("milter %s: can't read %s reply packet header: Application error", m.name, event)
	default:
		m.warn("milter %s: can't read %s reply packet header: %s", m.name, event, dial.Reason(err))
	}
}

// commError is what a failed filter means: milter_default_action.

func (m *filter) commError() {
	m.fail(Result{Verdict: Reject, Reply: "550 5.5.0 Service unavailable"},
		Result{Verdict: Reject, Reply: "451 4.7.1 Service unavailable - try again later"})
}

// confError is what a mistake in the configuration means.
func (m *filter) confError() {
	r := Result{Verdict: Reject, Reply: "451 4.3.5 Server configuration problem - try again later"}
	m.fail(r, r)
}

func (m *filter) fail(reject, tempfail Result) {
	m.shutdown()
	m.disconnect()
	switch strings.ToLower(m.action) {
	case "accept":
		m.decided = Result{}
	case "reject":
		m.decided = reject
	case "quarantine":
		m.decided = Result{Verdict: Hold}
	case "tempfail":
		m.decided = tempfail
	default:
		m.warn("milter %s: unrecognized default action: %s", m.name, m.action)
		m.decided = Result{Verdict: Reject, Reply: "451 4.3.5 Server configuration problem - try again later"}
	}
	m.state = stateError
}

func (m *filter) disconnect() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// persistent is what was decided for the whole session.
func (m *filter) persistent() Result {
	if m.state == stateError || m.state == stateRejectSession {
		return m.decided
	}
	return Result{}
}

// trim is a header's value as the filter sees it.
func (m *filter) trim(value string) string {
	if m.events&leadingSpace == 0 {
		value = strings.TrimPrefix(value, " ")
	}
	return value
}

func (m *filter) abort() {
	if m.conn == nil {
		return
	}
	m.skipping = 0
	m.conn.SetDeadline(time.Now().Add(m.command))
	if writePacket(m.out, cmdAbort, nil) == nil {
		_ = m.out.Flush() // trouble shows at the next event
	}
	m.state = stateEnvelope
}

func (m *filter) quit() {
	if m.conn != nil {
		m.conn.SetDeadline(time.Now().Add(m.command))
		if writePacket(m.out, cmdQuit, nil) == nil {
			_ = m.out.Flush()
		}
		m.disconnect()
	}
	m.state = stateClosed
}
