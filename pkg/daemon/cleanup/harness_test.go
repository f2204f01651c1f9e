package cleanup

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// A goldenCase is one message and the configuration it meets. The same case is
// played to Debian's cleanup (oracle_test.go), whose queue file, reply and log
// lines are the golden file, and to ours.
type goldenCase struct {
	name   string
	conf   map[string]string   // main.cf parameters
	maps   map[string]string   // parameter → "key value" lines
	checks map[string][]string // parameter → regexp table lines
	flags  int                 // 0 = what smtpd sends
	recs   string              // see parseRecords
	raw    []byte              // instead of recs
}

// baseConf is what every case starts from; the oracle's main.cf has it too.
var baseConf = map[string]string{
	"compatibility_level": "3.6", "myhostname": "mail.example.com", "mydomain": "example.com", "myorigin": "spec.example",
	"mydestination": "$myhostname, localhost, spec.example", "inet_interfaces": "loopback-only", "inet_protocols": "ipv4",
	"append_dot_mydomain": "no", "append_at_myorigin": "yes", "recipient_delimiter": "+",
}

// parseRecords reads lines "T data"; \ escapes as in Go strings. A line that
// starts with > is content: an N record; ] stands for the type >.
func parseRecords(t testing.TB, text string) []byte {
	var b []byte
	for _, line := range strings.Split(strings.TrimPrefix(text, "\n"), "\n") {
		if line == "" {
			continue
		}
		typ, data := record.Type(line[0]), ""
		switch {
		case typ == '>':
			typ, data = record.TypeNormal, line[1:]
		case len(line) > 2:
			data = line[2:]
		}
		if typ == ']' {
			typ = record.TypeRedirect
		}
		b = record.Append(b, typ, []byte(unescape(t, data)))
	}
	return b
}

var repeatRx = regexp.MustCompile(`\{(\d+)\*([^}]*)\}`)

func unescape(t testing.TB, s string) string {
	s = repeatRx.ReplaceAllStringFunc(s, func(m string) string {
		p := repeatRx.FindStringSubmatch(m)
		n := 0
		fmt.Sscan(p[1], &n)
		return strings.Repeat(p[2], n)
	})
	if !strings.Contains(s, `\`) {
		return s
	}
	var out string
	if _, err := fmt.Sscanf(`"`+strings.ReplaceAll(s, `"`, `\"`)+`"`, "%q", &out); err != nil {
		t.Fatalf("bad escape in %q: %v", s, err)
	}
	return out
}

func (c goldenCase) clientFlags() int {
	if c.flags == 0 {
		return 2 + 16 + 32 + 64 + 128
	}
	return c.flags
}

// play sends a case over a connection and returns the queue ID and the reply.
func (c goldenCase) play(t testing.TB, conn net.Conn) (id string, r proto.Result) {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := attr.NewReader(conn, attr.Null, "cleanup")
	if err := attr.Expect(in, proto.Protocol, attr.Str("queue_id", &id)); err != nil {
		t.Fatalf("%s: announcement: %v", c.name, err)
	}
	w := bufio.NewWriter(conn)
	attr.NewWriter(w, attr.Null).Int("flags", c.clientFlags()).End()
	if c.raw == nil {
		c.raw = parseRecords(t, c.recs)
	}
	w.Write(c.raw)
	// The service may hang up on us: its reply counts.
	go func() {
		w.Flush()
		if u, ok := conn.(interface{ CloseWrite() error }); ok {
			u.CloseWrite()
		}
	}()
	var status int
	if err := in.Scan(attr.Int("status", &status), attr.Str("reason", &r.Reason)); err != nil {
		t.Fatalf("%s: reply: %v", c.name, err)
	}
	r.Status = proto.Status(status)
	return id, r
}

var (
	createTimeRx = regexp.MustCompile(`^create_time=\d+$`)
	messageIDRx  = regexp.MustCompile(`\d{14}\.QID@`)
	delayRx      = regexp.MustCompile(`delays?=[0-9.]+(/0/0/0)?`)
)

func mask(id, s string) string {
	s = strings.ReplaceAll(s, id, "QID")
	s = createTimeRx.ReplaceAllString(s, "create_time=NOW")
	s = delayRx.ReplaceAllString(s, "delay")
	return messageIDRx.ReplaceAllString(s, "DATE.QID@")
}

// render turns what became of a message into the text of a golden file. Sizes
// and offsets are given as if the masked text stood in the file.
func render(t testing.TB, id string, r proto.Result, file []byte, where string, log []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "status %d\nreason %q\nqueue %s\n", r.Status, mask(id, r.Reason), where)
	if where != "none" {
		dumpRecords(t, &b, id, file)
	}
	for _, line := range log {
		fmt.Fprintf(&b, "log %s\n", mask(id, line))
	}
	return b.String()
}

func dumpRecords(t testing.TB, b *strings.Builder, id string, file []byte) {
	rd := record.NewReader(bytes.NewReader(file))
	rd.Raw = true
	var size record.SizeRecord
	var lines []string
	shiftBefore, shiftIn := int64(0), int64(0)
	part := 'E'
	for {
		typ, data, err := rd.Next()
		if err != nil {
			break
		}
		if typ == record.TypeSize {
			size, _ = record.ParseSize(data)
			continue
		}
		if typ == record.TypeExtracted {
			part = 'X'
		}
		text := mask(id, string(data))
		shift := int64(record.Size(len(data)) - record.Size(len(text)))
		if part == 'E' {
			shiftBefore += shift
		} else if part == 'C' {
			shiftIn += shift
		}
		if typ == record.TypeMessage {
			part = 'C'
		}
		if len(text) > 400 {
			text = fmt.Sprintf("%s...(%d bytes)", text[:100], len(text))
		}
		lines = append(lines, fmt.Sprintf("%c %q", typ, text))
	}
	size.DataOffset -= shiftBefore
	size.ContentSize -= shiftIn
	size.ContentLength -= shiftIn
	fmt.Fprintf(b, "C %s\n%s\n", strings.Join(strings.Fields(size.String()), " "), strings.Join(lines, "\n"))
}

// findFile looks where a message's file is.
func findFile(dir, id string) (data []byte, where string) {
	for _, q := range []string{"incoming", "hold"} {
		path := filepath.Join(dir, q, id)
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		data, _ := os.ReadFile(path)
		return data, fmt.Sprintf("%s %04o", q, info.Mode().Perm())
	}
	return nil, "none"
}

// world is our cleanup with everything around it replaced.
type world struct {
	*daemon
	dir    string
	logged *maillog.Buffer
	calls  []string // of bounce, verify
	woken  chan struct{}
}

func newWorld(t testing.TB, c goldenCase) *world {
	t.Helper()
	dir := t.TempDir()
	for _, q := range []string{"incoming", "hold", "defer", "bounce", "trace"} {
		if err := os.Mkdir(filepath.Join(dir, q), 0700); err != nil {
			t.Fatal(err)
		}
	}
	params := map[string]string{}
	for _, m := range []map[string]string{baseConf, c.conf} {
		for k, v := range m {
			params[k] = v
		}
	}
	for name := range c.maps {
		params[name] = "fake:" + name
	}
	for name := range c.checks {
		params[name] = "fake:" + name
	}
	cfg := conf.FromMap(params)
	set, err := readSettings(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log, logged := maillog.Capture()
	set.milter.Log = log
	w := &world{dir: dir, logged: logged, woken: make(chan struct{}, 100)}
	w.daemon = &daemon{
		set: set, log: log, rewrite: fakeRewrite{set}, bounce: w, verify: w, now: time.Now,
		isLocal: func(_ context.Context, d string) (bool, error) {
			return d == "spec.example" || d == "mail.example.com" || d == "localhost", nil
		},
		trigger: w.wake,
		held:    func() {},
		spool:   queue.New(dir, queue.Options{Log: log}),
	}
	w.maps = fakeMaps(t, log, c)
	list, err := table.NewMatchList(table.Env{Config: cfg, Log: log}, "masquerade_exceptions", cfg.String("masquerade_exceptions"), table.MatchString, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.maps.masqueradeExceptions = list
	return w
}

// socketPair is net.Pipe with half-close.
func socketPair(t testing.TB) (a, b net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := [2]net.Conn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

// run plays a case over a socket.
func (w *world) run(t testing.TB, c goldenCase) (id string, r proto.Result, result string) {
	t.Helper()
	client, server := socketPair(t)
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		done <- w.serve(context.Background(), server, "cleanup socket")
	}()
	id, r = c.play(t, client)
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	client.Close()
	data, where := findFile(w.dir, id)
	return id, r, render(t, id, r, data, where, w.logged.Lines())
}

func (w *world) Append(_ context.Context, service, id string, flags bounce.Flags, rcpt bounce.Recipient, st dsn.Status) error {
	w.calls = append(w.calls, fmt.Sprintf("append %s %d %+v %+v", service, flags, rcpt, st))
	return nil
}

func (w *world) Flush(_ context.Context, service string, flags bounce.Flags, m bounce.Message) error {
	m.ID = ""
	w.calls = append(w.calls, fmt.Sprintf("flush %s %d %+v", service, flags, m))
	return nil
}

func (w *world) FlushVERP(_ context.Context, service string, flags bounce.Flags, m bounce.Message, delimiters string) error {
	m.ID = ""
	w.calls = append(w.calls, fmt.Sprintf("verp %s %d %+v %s", service, flags, m, delimiters))
	return nil
}

func (w *world) Update(_ context.Context, addr string, r verify.Result, reason string) error {
	w.calls = append(w.calls, fmt.Sprintf("verify %s %d %s", addr, r, reason))
	return nil
}

// fakeRewrite does what trivial-rewrite does in the contexts local and remote
// (routing.md §2.4).
type fakeRewrite struct{ set *settings }

func (f fakeRewrite) Rewrite(_ context.Context, rule, addr string) (string, error) {
	origin := f.set.myorigin
	if rule == "remote" {
		origin = f.set.remoteDomain
	}
	l := address.Scan(addr, 0)
	if len(l) == 1 && l[0].Kind == address.Quoted && l[0].Text == "" {
		return addr, nil
	}
	if len(l) == 1 && l[0].Is('@') {
		return `""`, nil
	}
	index := func(op byte) int {
		for i, t := range l {
			if t.Is(op) {
				return i
			}
		}
		return -1
	}
	if len(l) > 0 && l[0].Is('@') {
		if i := index(':'); i >= 0 && i < len(l)-1 {
			l = l[i+1:]
		}
	}
	if index('@') < 0 {
		percent := -1
		for i, t := range l {
			if t.Is('%') {
				percent = i
			}
		}
		at := address.Token{Kind: address.Operator, Text: "@"}
		switch bang := index('!'); {
		case bang >= 0:
			l = append(append(append(address.List{}, l[bang+1:]...), at), l[:bang]...)
		case percent >= 0:
			l[percent] = at
		case origin != "":
			l = append(append(l, at), address.Scan(origin, 0)...)
		}
	}
	if n := len(l); n > 1 && l[n-1].Is('.') && !l[n-2].Is('.') && !l[n-2].Is('@') {
		l = l[:n-1]
	}
	return address.Quote(l.Internal()), nil
}

func fakeMaps(t testing.TB, log *maillog.Logger, c goldenCase) (m maps) {
	env := table.Env{Log: log}
	places := map[string]**table.Maps{
		"canonical_maps": &m.canonical, "sender_canonical_maps": &m.senderCanonical, "recipient_canonical_maps": &m.recipientCanonical,
		"virtual_alias_maps": &m.virtualAlias, "sender_bcc_maps": &m.senderBCC, "recipient_bcc_maps": &m.recipientBCC,
		"header_checks": &m.headerChecks, "mime_header_checks": &m.mimeHeaderChecks, "nested_header_checks": &m.nestedHeaderChecks,
		"body_checks": &m.bodyChecks,
	}
	for name, text := range c.maps {
		entries := fixedTable{}
		for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
			k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			entries[strings.ToLower(k)] = v
		}
		if strings.Contains(text, "!error") {
			entries = nil
		}
		*places[name] = table.NewMaps(env, name, entries)
	}
	open := func(name string, lines []string) {
		var rules ruleTable
		for _, line := range lines {
			i := strings.LastIndexByte(line, '/')
			rx, rest := line[1:i], line[i+1:]
			_, action, _ := strings.Cut(rest, " ")
			rules = append(rules, rule{regexp.MustCompile(`(?is)` + rx), action})
		}
		*places[name] = table.NewMaps(env, name, rules)
	}
	for name, lines := range c.checks {
		open(name, lines)
		if name == "header_checks" {
			for _, other := range []string{"mime_header_checks", "nested_header_checks"} {
				if c.checks[other] == nil {
					open(other, lines)
					m2 := places[other]
					*m2 = table.NewMaps(env, other, (*m2).Tables()...)
				}
			}
		}
	}
	return m
}

type fixedTable map[string]string

func (f fixedTable) Lookup(_ context.Context, key string) (string, bool, error) {
	v, ok := f[strings.ToLower(key)]
	if f == nil {
		return "", false, &table.Error{Table: "fake", Temporary: true, Err: os.ErrClosed}
	}
	return v, ok, nil
}
func (f fixedTable) Name() string       { return "fail:fake" }
func (f fixedTable) Flags() table.Flags { return table.Fixed }
func (f fixedTable) Close() error       { return nil }

type rule struct {
	rx     *regexp.Regexp
	action string
}
type ruleTable []rule

func (r ruleTable) Lookup(_ context.Context, key string) (string, bool, error) {
	for _, x := range r {
		if x.rx.MatchString(key) {
			return x.action, true, nil
		}
	}
	return "", false, nil
}
func (r ruleTable) Name() string       { return "fake:rules" }
func (r ruleTable) Flags() table.Flags { return table.Pattern }
func (r ruleTable) Close() error       { return nil }

// wake counts a trigger, as far as there is room.
func (w *world) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}
