package milter

import (
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// TestEditedDelivery delivers changed messages: queue files with pointers are
// read by either suite's queue manager and SMTP client, and again after
// "postsuper -r".
func TestEditedDelivery(t *testing.T) {
	t.Parallel()
	names := []string{"insert 1 thrice", "rcpt add par", "from par", "body twice", "all", "header with lines", "large body"}
	run := func(o world.Options) map[string]string {
		o.Main = []string{"relayhost = [127.0.0.1]:7025"}
		out := &sink{}
		l := newLabWith(t, o, false, func(l *lab) { listen(t, l, "127.0.0.1:7025", out) })
		deliver := func() string {
			for range 300 {
				if len(l.files("active"))+len(l.files("incoming"))+len(l.files("maildrop"))+len(l.files("deferred")) == 0 {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			return strings.Join(out.received(1, 10*time.Second), "\n--\n")
		}
		all := map[string]string{}
		for _, c := range editCases {
			found := false
			for _, n := range names {
				found = found || n == c.name
			}
			if !found {
				continue
			}
			for i, s := range c.scripts() {
				l.filters[i].play(s)
			}
			out.mu.Lock()
			out.mail = nil
			out.mu.Unlock()
			m := c.mail
			fill(&m)
			l.smtp(t, m)
			all[c.name] = maskDelivery(l.mask("", deliver()))
		}
		// On hold, then through pickup and cleanup once more.
		l.filters[0].play(script{replies: map[byte][]string{'E': {addHeader("X-A", "b"), addRcpt("new@sink.test"), replBody("held body\r\n"), quarantine("look")}}})
		l.filters[1].play(script{})
		out.mu.Lock()
		out.mail = nil
		out.mu.Unlock()
		m := mail{}
		fill(&m)
		l.smtp(t, m)
		if held := len(l.files("hold")); held != 1 {
			t.Errorf("%d files on hold", held)
		}
		l.filters[0].play(script{})
		if r := l.Run("", "postsuper", "-r", "ALL"); r.Code != 0 {
			t.Error(r.Err)
		}
		l.Run("", "postkick", "public", "pickup", "W")
		out.received(1, 10*time.Second)
		all["requeued"] = maskDelivery(l.mask("", deliver()))
		return all
	}
	want := run(world.Options{Suite: world.Debian})
	for _, o := range []world.Options{{Suite: world.Ours}, {Suite: world.Debian, Swap: []string{"cleanup"}}} {
		got := run(o)
		for name, w := range want {
			if !strings.Contains(w, "Received: ") {
				t.Errorf("%s: Debian's suite delivered nothing: %s", name, w)
			}
			if got[name] != w {
				t.Errorf("%v %s:\n%s", o, name, lineDiff(w, got[name]))
			}
		}
	}
}
