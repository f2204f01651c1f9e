package milter

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// pipeFilter is a filter at the other end of a pipe that says what it says and
// listens to nothing.
func pipeFilter(t testing.TB, f *Filters, says []byte) *filter {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go io.Copy(io.Discard, theirs)
	m := &filter{cfg: &f.cfg, name: "pipe", state: stateEnvelope, command: time.Second, content: time.Second, action: "tempfail", protocol: "6"}
	m.use(ours)
	m.in = bufio.NewReader(bytes.NewReader(says))
	f.list = append(f.list, m)
	return m
}

// FuzzReplies gives a filter's bytes to the negotiation, to an event, and to
// the end of a message: whatever they are, there is a verdict, replies are
// fit to send, and edits stay within the message.
func FuzzReplies(f *testing.F) {
	for _, seed := range [][]byte{agreed, reply('c', ""), reply('y', "550 5.7.1 no\x00"), join(reply('h', "A\x00b\x00"), reply('b', "x"), reply('q', "\x00"), reply('c', "")),
		reply('i', "\x00\x00\x00\x01A\x00b\x00"), reply('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x00\x00\x00\x00\x00\x00\x05i j\x00"), {0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff, 'b'}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		for _, run := range []func(fs *Filters) Result{
			func(fs *Filters) Result { fs.list[0].negotiate(6, versions[6]); return fs.Helo("x") },
			func(fs *Filters) Result { return fs.Rcpt("<x>") },
			func(fs *Filters) Result { return fs.Message(show, &recorder{}) },
		} {
			fs := &Filters{cfg: testConfig(nil)}
			m := pipeFilter(t, fs, says)
			r := run(fs)
			if (r.Verdict == Reject || r.Verdict == Shutdown) != (r.Reply != "") || r.Reply != "" && strings.IndexByte("45", r.Reply[0]) < 0 || strings.Contains(r.Reply, "\x00") {
				t.Errorf("%+v", r)
			}
			m.disconnect()
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add("550-5.7.1 no\r\n550 5.7.1 way", true)
	f.Add("450 4.0.0 100%%", false)
	f.Fuzz(func(t *testing.T, text string, soft bool) {
		got, ok := ParseReply(text, soft)
		if !ok {
			return
		}
		if soft && strings.HasPrefix(got, "5") {
			t.Errorf("%q: %q is hard", text, got)
		}
		for line := range strings.SplitSeq(got, "\r\n") {
			if len(line) < 3 || line[:3] != got[:3] {
				t.Errorf("%q: %q", text, got)
			}
		}
	})
}
