package milter

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// lab is a machine with two scripted Milters. Its queue manager is switched
// off, so that queue files stay as cleanup left them.
type lab struct {
	*world.World
	filters [2]*scripted
}

// settings are the lab's main.cf. Port 25 has Milters, 2525 has none.
var settings = []string{
	"compatibility_level = 3.6", "myhostname = mx.example.test", "mydomain = example.test", "myorigin = $myhostname",
	"mydestination = $myhostname, localhost", "inet_interfaces = loopback-only", "inet_protocols = ipv4",
	"mynetworks = 127.0.0.0/8", "smtputf8_enable = yes", "relayhost = [127.0.0.1]:9", "local_recipient_maps =",
	"smtpd_milters = inet:127.0.0.1:7001, inet:127.0.0.1:7002", "non_smtpd_milters = inet:127.0.0.1:7001, inet:127.0.0.1:7002",
	"sender_bcc_maps = inline:{ sbcc@example.test=bcc-of-sender@example.test }",
	"virtual_alias_maps = inline:{ {list@example.test = one@example.test, two@example.test} }",
	"milter_command_timeout = 3s", "milter_content_timeout = 4s", "milter_connect_timeout = 3s",
}

// newLab starts a machine.
func newLab(t testing.TB, o world.Options, noQueueManager bool, more ...string) *lab {
	t.Helper()
	o.Main = append(append(append([]string(nil), settings...), o.Main...), more...)
	w := world.Test(t, o)
	l := &lab{World: w}
	master := w.Path("/etc/postfix/master.cf")
	text, err := os.ReadFile(master)
	if err != nil {
		t.Fatal(err)
	}
	s := string(text) + "2525 inet n - n - - smtpd\n  -o smtpd_milters=\n"
	if noQueueManager {
		s = regexp.MustCompile(`(?m)^qmgr .*`).ReplaceAllString(s, "")
	}
	if err := os.WriteFile(master, []byte(s), 0644); err != nil {
		t.Fatal(err)
	}
	for i := range l.filters {
		l.filters[i] = &scripted{}
		ln, err := w.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 7001+i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go l.filters[i].serve(ln)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return l
}

// mail is one message as a client sends it.
type mail struct {
	from, to string // from may have parameters; to is a list separated by blanks
	text     string // with \n
	sendmail bool   // through sendmail instead of SMTP
	port     int    // 0 is 25
}

var idRx = regexp.MustCompile(`queued as ([0-9A-Za-z]+)|([0-9A-F]{8,}): `)

// smtp sends a message and returns the replies, from MAIL on.
func (l *lab) smtp(t testing.TB, m mail) (replies []string) {
	t.Helper()
	if m.port == 0 {
		m.port = 25
	}
	c, err := l.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	say := func(line string) string {
		if line != "" {
			fmt.Fprintf(c, "%s\r\n", line)
		}
		return readReply(r)
	}
	banner := say("")
	ehlo := say("EHLO client.example.test")
	if ehlo[0] != '2' {
		return []string{banner, ehlo}
	}
	from, params, _ := strings.Cut(m.from, " ")
	if params != "" {
		params = " " + params
	}
	replies = append(replies, say("MAIL FROM:<"+from+">"+params))
	for rcpt := range strings.FieldsSeq(m.to) {
		replies = append(replies, say("RCPT TO:<"+rcpt+">"))
	}
	data := say("DATA")
	replies = append(replies, data)
	if strings.HasPrefix(data, "354") {
		text := strings.ReplaceAll(strings.ReplaceAll(m.text, "\n", "\r\n"), "\r\n.", "\r\n..")
		replies = append(replies, say(text+"."))
	}
	fmt.Fprintf(c, "QUIT\r\n")
	readReply(r)
	return replies
}

func readReply(r *bufio.Reader) string {
	var all []string
	for {
		line, err := r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if line != "" {
			all = append(all, line)
		}
		if err != nil {
			return strings.Join(append(all, "EOF"), "\\n")
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(all, "\\n")
		}
	}
}

// outcome is what became of a message, with everything masked that differs
// from run to run.
type outcome struct {
	replies string // SMTP replies, or sendmail's output
	queue   string // where the file is
	file    string // logical records, as postcat shows them
	raw     string // records in file order with offsets, pointers shown
	seen    string // by the filters
	log     string
}

// run passes one message through the machine.
func (l *lab) run(t testing.TB, m mail, scripts ...script) (o outcome) {
	t.Helper()
	for i, f := range l.filters {
		s := script{}
		if i < len(scripts) {
			s = scripts[i]
		}
		f.play(s)
	}
	l.emptyQueue()
	mark := len(l.Syslog())
	if m.sendmail {
		r := l.Run(m.text, append([]string{"sendmail", "-i", "-f", m.from}, strings.Fields(m.to)...)...)
		o.replies = r.Out + r.Err
		l.waitQuiet(mark)
	} else {
		o.replies = strings.Join(l.smtp(t, m), "\n")
	}
	time.Sleep(30 * time.Millisecond)
	var id string
	for _, q := range []string{"incoming", "hold"} {
		for path := range l.files(q) {
			id = filepath.Base(path)
			o.queue = q
			if info, err := os.Stat(path); err == nil {
				o.queue = fmt.Sprintf("%s %04o", q, info.Mode().Perm())
			}
			dir := "/var/spool/postfix/" + q + "/"
			o.file = l.Sh(l.postcat() + " -ehb " + dir + id).Out
			o.raw = l.Sh(l.postcat() + " -odv " + dir + id + " 2>&1 | grep -v '^postcat'").Out
		}
	}
	log := l.Syslog()[mark:]
	if id == "" {
		if p := idRx.FindStringSubmatch(log); p != nil {
			id = p[2]
		}
	}
	o.log = l.mask(id, cleanupLog(log))
	for i, f := range l.filters {
		o.seen += l.mask(id, fmt.Sprintf("filter %d\n%s\n", i, strings.Join(f.transcript(), "\n")))
	}
	o.replies, o.file, o.raw = l.mask(id, o.replies), l.mask(id, o.file), l.mask(id, o.raw)
	return o
}

// postcat is the program that shows queue files: Debian's, whichever suite
// runs.
func (l *lab) postcat() string { return "/usr/sbin/postcat" }

// waitQuiet waits until the maildrop is empty and cleanup is done.
func (l *lab) waitQuiet(mark int) {
	for range 120 {
		time.Sleep(50 * time.Millisecond)
		if len(l.files("maildrop")) == 0 {
			time.Sleep(100 * time.Millisecond)
			return
		}
	}
}

func (l *lab) files(queue string) map[string]bool {
	found := map[string]bool{}
	filepath.Walk(l.Path("/var/spool/postfix/"+queue), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			found[path] = true
		}
		return nil
	})
	return found
}

func (l *lab) emptyQueue() {
	for _, q := range []string{"incoming", "hold", "maildrop", "deferred"} {
		for path := range l.files(q) {
			os.Remove(path)
		}
	}
}

var logRx = regexp.MustCompile(`postfix/(cleanup|smtpd|2525/smtpd|pickup|qmgr|smtp|local|pipe)\[\d+\]: (.*)`)

func cleanupLog(log string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(log, "\n") {
		p := logRx.FindStringSubmatch(line)
		if p == nil || strings.Contains(p[2], "connect from") || strings.Contains(p[2], "public/qmgr") || strings.Contains(p[2], "file system clock") || strings.Contains(p[2], "resetting file time") {
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", p[1], p[2])
	}
	return b.String()
}

var masks = []struct {
	rx *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\d{14}\.ID@`), "DATE.ID@"},
	{regexp.MustCompile(`(?m)(create_time: |_time: ).*`), "${1}TIME"},
	{regexp.MustCompile(`[A-Z][a-z]{2}, [ \d]\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4} \(\w+\)`), "DATE"},
	{regexp.MustCompile(`(client_port=|\{client_port\}\\x00)\d+`), "${1}PORT"},
	{regexp.MustCompile(`(C "localhost\\x004).*?(127)`), "${1}PORT${2}"},
	{regexp.MustCompile(`uid=\d+`), "uid=N"},
	{regexp.MustCompile(`3\.7\.11-posthaste-[^ )\\]*`), "3.7.11"},
	{regexp.MustCompile(`client_port\}\\x00\d+`), "client_port}\\x00PORT"},
}

func (l *lab) mask(id, s string) string {
	if id != "" {
		s = strings.ReplaceAll(s, id, "ID")
	}
	for _, m := range masks {
		s = m.rx.ReplaceAllString(s, m.to)
	}
	return s
}

var _ net.Conn
