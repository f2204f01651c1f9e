package tlsmgr

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/tlsmgr"
	"posthaste/test/world"
)

// script is what both programs are asked, "|" for NUL, a line of requests a
// connection.
var script = [][]string{
	{"request|seed|size|16||", "request|seed|size|0||", "request|seed|size|255||", "request|seed|size|256||", "request|seed|size|-1||", "request|seed|size|x||", "request|seed||", "request|seed|foo|1||"},
	{"request|policy|cache_type|smtp||", "request|policy|cache_type|smtpd||", "request|policy|cache_type|lmtp||", "request|policy|cache_type|bogus||", "request|policy||"},
	{"request|lookup|cache_type|smtp|cache_id|nope||", "request|lookup|cache_type|lmtp|cache_id|nope||", "request|lookup|cache_type|smtp||", "request|lookup|cache_type|x|cache_id|y||"},
	{"request|update|cache_type|smtp|cache_id|k1|session|AAEC||", "request|lookup|cache_type|smtp|cache_id|k1||", "request|update|cache_type|smtp|cache_id|k1|session|AAECAA==||", "request|lookup|cache_type|smtp|cache_id|k1||",
		"request|lookup|cache_type|smtpd|cache_id|k1||", "request|update|cache_type|smtp|cache_id|k2|session|||", "request|lookup|cache_type|smtp|cache_id|k2||",
		"request|update|cache_type|smtp|cache_id|k3|session|!!!||", "request|update|cache_type|smtp|cache_id|k3||", "request|update|cache_type|lmtp|cache_id|k3|session|AAEC||",
		"request|update|cache_type|zz|cache_id|k3|session|AAEC||", "request|update|cache_type|smtpd|cache_id||session|AAEC||", "request|lookup|cache_type|smtpd|cache_id|||"},
	{"request|update|cache_type|smtpd|cache_id|big|session|" + strings.Repeat("AAAA", 4000) + "||", "request|lookup|cache_type|smtpd|cache_id|big||"},
	{"request|delete|cache_type|smtp|cache_id|k1||", "request|delete|cache_type|smtp|cache_id|k1||", "request|delete|cache_type|lmtp|cache_id|k1||", "request|delete|cache_type|smtp||", "request|delete|cache_type|q|cache_id|k||"},
	{"request|tktkey|keyname|||", "request|tktkey|keyname|AAAAAAAAAAAAAAAAAAAAAA==||", "request|tktkey|keyname|AAAA||", "request|tktkey||", "request|tktkey|keyname|!!||"},
	{"foo|bar||", "request|seed|size|16|extra|x||"},
	{"request|bogus||"},
	{"W|"},
}

// random is what differs from run to run: seeds, keys, times.
var random = regexp.MustCompile(`seed\|[^|]+|keybuf\|[^|]{40,}|time=\d+|^.*tlsmgr\[\d+\]: `)

func masked(s string) string {
	return random.ReplaceAllStringFunc(s, func(m string) string {
		name, value, ok := strings.Cut(m, "|")
		if !ok {
			return ""
		}
		return fmt.Sprintf("%s|%d bytes", name, len(value))
	})
}

// talk sends a request and returns the reply.
func talk(w io.ReadWriter, in *attr.Reader, request string) string {
	io.WriteString(w, strings.ReplaceAll(request, "|", "\x00"))
	list, err := in.List()
	if err == io.EOF {
		return "end"
	}
	if err != nil {
		return "nothing"
	}
	var b strings.Builder
	for _, a := range list {
		b.WriteString(a.Name + "|" + a.Value + "|")
	}
	return b.String()
}

// play asks the tlsmgr of a machine everything and returns its replies and log.
func play(t *testing.T, w *world.World, settings ...string) (replies, log []string) {
	t.Helper()
	if err := w.Set(settings...); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i, requests := range script {
		c, err := w.Dial("unix", w.Path("/var/spool/postfix/private/tlsmgr"))
		if err != nil {
			t.Fatal(err)
		}
		in := attr.NewReader(c, attr.Null, "tlsmgr")
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if err := attr.Expect(in, protocol.Protocol); err != nil {
			t.Fatal(err)
		}
		if i == len(script)-2 {
			c.SetDeadline(time.Now().Add(200 * time.Millisecond)) // there will be no reply
		}
		for _, r := range requests {
			replies = append(replies, fmt.Sprintf("%.60s -> %s", r, masked(talk(c, in, r))))
		}
		c.Close()
	}
	for line := range strings.Lines(w.Syslog()) {
		if strings.Contains(line, "/tlsmgr[") {
			log = append(log, masked(strings.TrimSpace(line)))
		}
	}
	return replies, log
}

// Our tlsmgr under Debian's master answers and logs as Debian's does.
func TestWorld(t *testing.T) {
	for name, settings := range map[string][]string{
		"enabled": {"smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache", "smtpd_tls_session_cache_database = btree:/etc/postfix/smtpd_scache",
			"smtp_tls_loglevel = 2", "smtpd_tls_loglevel = cache", "smtpd_tls_session_cache_timeout = 10s"},
		"disabled": {"smtp_tls_session_cache_database = hash:${data_directory}/smtp_scache", "smtpd_tls_session_cache_database = btree:${data_directory}/smtpd_scache",
			"lmtp_tls_session_cache_database =", "smtp_tls_loglevel = 1", "smtpd_tls_loglevel = verbose", "smtpd_tls_session_cache_timeout = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replies, logs := play(t, world.Test(t, world.Options{Suite: world.Debian, Memory: true}), settings...)
			ours, log := play(t, world.Test(t, world.Options{Suite: world.Debian, Memory: true, Swap: []string{"tlsmgr"}}), settings...)
			for n, want := range replies {
				if got := ours[n]; got != want {
					t.Errorf("ours:     %.300s\nDebian's: %.300s", got, want)
				}
			}
			if got, want := strings.Join(log, "\n"), strings.Join(logs, "\n"); got != want {
				t.Errorf("our log:\n%s\nDebian's:\n%s", got, want)
			}
		})
	}
}
