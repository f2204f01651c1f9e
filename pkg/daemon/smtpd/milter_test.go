package smtpd

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/wire/milter"
)

// sendMilters makes the fake a milterTaker.
func (m *fakeMessage) sendMilters(filters *milter.Filters) error {
	m.records = append(m.records, fmt.Sprintf("m%d", filters.Active()))
	return nil
}

// localMilter starts a scripted filter here.
func localMilter(t testing.TB, s answers) (*scriptedMilter, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network: ", err)
	}
	m := &scriptedMilter{l: l, script: s}
	go m.serve()
	t.Cleanup(m.close)
	return m, "inet:" + l.Addr().String()
}

// playMilters is a conversation with a server whose Milters are list.
func playMilters(t *testing.T, list string, result cleanup.Result, lines ...string) (string, *fakeCleanup, []string) {
	t.Helper()
	srv, fake, log := newTestServer(t, [][2]string{{"smtpd_milters", list}, {"local_recipient_maps", ""}})
	fake.result = result
	conn, done := connect(t, srv)
	out := milterTalk(conn, lines)
	waitFor(t, done)
	return out, fake, log.Lines()
}

func TestMilterRecords(t *testing.T) {
	_, addr := localMilter(t, answers{"M2": "q:x\\x00|c"})
	mail := []string{"MAIL FROM:<a@b.example>", "RCPT TO:<c@mail.example.com>", "DATA", "\nx\n."}
	out, fake, _ := playMilters(t, addr, cleanup.Result{}, append(append([]string{"EHLO x"}, mail...), append(mail, "QUIT")...)...)
	if strings.Count(out, "queued as") != 2 {
		t.Fatal(out)
	}
	for i, m := range fake.messages {
		if m.flags != 242 || m.records[0] != "m0" {
			t.Errorf("flags %d, records %q", m.flags, m.records)
		}
		from := slices.Index(m.records, "m1")
		want := [][]string{{"m1", "M"}, {"m1", "f4", "M"}}[i]
		if from < 0 || !slices.Equal(m.records[from:from+len(want)], want) {
			t.Errorf("records %q, want %q", m.records, want)
		}
	}
}

// When the queue file could not be written, the Milters' view of the session
// is not ours: it ends.
func TestMilterWriteError(t *testing.T) {
	_, addr := localMilter(t, nil)
	out, _, _ := playMilters(t, addr, cleanup.Result{Status: cleanup.StatusWrite}, "EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<c@mail.example.com>", "DATA", "\nx\n.", "NOOP", "NOOP")
	if !strings.HasSuffix(out, "S: 451 4.3.0 Error: queue file write error\nC: \"NOOP\"\nS: 421 4.3.0 Mail system error\nC: \"NOOP\"\nS: (end)\n") {
		t.Error(out)
	}
}

func TestMilterBadList(t *testing.T) {
	out, _, lines := playMilters(t, "{ inet:127.0.0.1:1, nonsense=x }", cleanup.Result{}, "EHLO x")
	if !strings.HasPrefix(out, "S: 421 4.3.0 mail.example.com Server local data error\n") || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, `unknown option: "nonsense = x"`) }) {
		t.Error(out, lines)
	}
}

// Whatever a filter does, the session goes on and ends properly.
func FuzzMilterSession(f *testing.F) {
	for _, seed := range []string{"\x00\x00\x00\x01c", "\x00\x00\x00\x01r", "\x00\x00\x00\x09y421 4.0.", "", "\x00\x00\x00\x014"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		quoted := strings.Trim(fmt.Sprintf("%q", raw), `"`)
		if strings.Contains(raw, "|") || strings.Contains(raw, `"`) || len(raw) > 100 {
			t.Skip()
		}
		_, addr := localMilter(t, answers{"C": "raw:" + quoted + "|!close"})
		srv, _, _ := newTestServer(t, [][2]string{{"smtpd_milters", addr}})
		conn, done := connect(t, srv)
		milterTalk(conn, []string{"EHLO x", "MAIL FROM:<a@b.example>", "QUIT"})
		waitFor(t, done)
	})
}
