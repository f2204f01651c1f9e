package milter

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// lab is a machine with two scripted Milters. Its queue manager is switched
// off, so that queue files stay as cleanup left them.
type lab struct {
	*world.World
	base    string // main.cf before any case's settings
	current string // settings of the last case
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
	"milter_command_timeout = 2s", "in_flow_delay = 0", "milter_content_timeout = 2s", "milter_connect_timeout = 2s",
}

func makeLab(t testing.TB, o world.Options, noQueueManager bool, prepare func(l *lab)) *lab {
	t.Helper()
	o.Main = append(append([]string(nil), settings...), o.Main...)
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
	main, err := os.ReadFile(w.Path("/etc/postfix/main.cf"))
	if err != nil {
		t.Fatal(err)
	}
	l.base = string(main)
	prepare(l)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return l
}

// configure makes these settings hold beyond the lab's own.
func (l *lab) configure(t testing.TB, conf []string) {
	t.Helper()
	text := strings.Join(conf, "\n")
	if text == l.current {
		return
	}
	l.current = text
	// A reload would leave processes with the old settings for a moment.
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path("/etc/postfix/main.cf"), []byte(l.base), 0644); err != nil {
		t.Fatal(err)
	}
	if err := l.Set(conf...); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
}

// mail is one message as a client sends it.
type mail struct {
	from, to string   // from may have parameters; to is a list separated by blanks
	text     string   // with \n
	sendmail bool     // through sendmail instead of SMTP
	options  []string // of sendmail
	port     int      // 0 is 25
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
	Replies string // SMTP replies, or sendmail's output
	Queue   string // where the file is
	File    string // logical records, as postcat shows them
	Raw     string // records in file order with offsets, pointers shown
	Seen    string // by the filters
	Log     string
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
		r := l.Run(m.text, append(append([]string{"sendmail", "-i"}, m.options...), append([]string{"-f", m.from}, strings.Fields(m.to)...)...)...)
		o.Replies = r.Out + r.Err
		l.waitQuiet(mark)
	} else {
		o.Replies = strings.Join(l.smtp(t, m), "\n")
	}
	time.Sleep(30 * time.Millisecond)
	var id string
	for _, q := range []string{"incoming", "hold"} {
		for path := range l.files(q) {
			id = filepath.Base(path)
			o.Queue = q
			if info, err := os.Stat(path); err == nil {
				o.Queue = fmt.Sprintf("%s %04o", q, info.Mode().Perm())
			}
			dir := "/var/spool/postfix/" + q + "/"
			o.File = l.Sh(l.postcat() + " -ehb " + dir + id).Out
			o.Raw = l.Sh(l.postcat() + " -odv " + dir + id + " 2>&1 | grep -v 'postcat: '").Out
		}
	}
	log := l.Syslog()[mark:]
	if id == "" {
		if p := idRx.FindStringSubmatch(log); p != nil {
			id = p[2]
		}
	}
	o.Log = regexp.MustCompile(`delays?=[0-9./]+`).ReplaceAllString(l.mask(id, cleanupLog(log)), "delay")
	for i, f := range l.filters {
		o.Seen += l.mask(id, fmt.Sprintf("filter %d\n%s\n", i, strings.Join(f.transcript(), "\n")))
	}
	o.Replies, o.File, o.Raw = l.mask(id, o.Replies), l.mask(id, o.File), l.mask(id, o.Raw)
	o.settle()
	return o
}

// postcat is the program that shows queue files: Debian's, whichever suite
// runs.
func (l *lab) postcat() string { return "/usr/sbin/postcat" }

// waitQuiet waits until the maildrop is empty and cleanup is done.
func (l *lab) waitQuiet(mark int) {
	quiet := 0
	for range 200 {
		time.Sleep(30 * time.Millisecond)
		if len(l.files("maildrop")) > 0 {
			continue
		}
		for _, q := range []string{"incoming", "hold"} {
			for path := range l.files(q) {
				if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0100 != 0 {
					time.Sleep(50 * time.Millisecond)
					return
				}
			}
		}
		if quiet++; quiet > 30 { // nothing is to come
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
		if p == nil || strings.Contains(p[2], "connect from") || strings.Contains(p[2], "public/qmgr") || strings.Contains(p[2], "overriding earlier") || strings.Contains(p[2], "file system clock") || strings.Contains(p[2], "resetting file time") {
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
	{regexp.MustCompile(`\b[0-9A-F]{9,12}\b(\.\d{10}/)?`), "ID"},
	{regexp.MustCompile(`x00[0-9A-F]{9,12}\\`), `x00ID\`},
	{regexp.MustCompile(`uid=\d+`), "uid=N"},
	{regexp.MustCompile(`(?m)^( *\d+ )( *\d+ (pointer_record|padding|[a-z_]+):)`), "${1}${2}"},
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

// compare lists what two outcomes differ in, "-" for want, "+" for got.
func compare(want, got outcome) string {
	var b strings.Builder
	for _, p := range []struct{ what, want, got string }{
		{"replies", want.Replies, got.Replies}, {"queue", want.Queue, got.Queue}, {"file", want.File, got.File},
		{"raw", want.Raw, got.Raw}, {"seen", want.Seen, got.Seen}, {"log", want.Log, got.Log},
	} {
		if p.want != p.got {
			fmt.Fprintf(&b, "--- %s\n%s", p.what, lineDiff(p.want, p.got))
		}
	}
	return b.String()
}

// lineDiff lists the lines that only one of two texts has.
func lineDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	counts := map[string]int{}
	for _, l := range a {
		counts[l]++
	}
	for _, l := range b {
		counts[l]--
	}
	var out strings.Builder
	for _, l := range append(a, b...) {
		switch n := counts[l]; {
		case n > 0:
			out.WriteString("- " + l + "\n")
		case n < 0:
			out.WriteString("+ " + l + "\n")
		}
		delete(counts, l)
	}
	if out.Len() == 0 && want != got {
		return "(the same lines in another order)\n"
	}
	return out.String()
}

var (
	createRx  = regexp.MustCompile(`(?m)^ +(\d+)  65 create_time`)
	offsetRx  = regexp.MustCompile(`(?m)^ *(\d+) ( *\d+ [a-z_]+:|\s*\d+ \*\*\*)`)
	pointerRx = regexp.MustCompile(`pointer_record: +(\d+)`)
	sizeRx    = regexp.MustCompile(`message_size: +(\d+) +(\d+)`)
)

// settle shifts offsets as if the arrival time had six digits of microseconds.
func (o *outcome) settle() {
	m := createRx.FindStringSubmatch(o.Raw)
	if m == nil {
		return
	}
	var at int
	fmt.Sscan(m[1], &at)
	shift := func(rx *regexp.Regexp, group int, s string) string {
		return rx.ReplaceAllStringFunc(s, func(hit string) string {
			p := rx.FindStringSubmatchIndex(hit)
			var n int
			fmt.Sscan(hit[p[2*group]:p[2*group+1]], &n)
			if n >= at {
				n += 116 - at
			}
			if rx == offsetRx {
				return fmt.Sprintf("%9d", n) + hit[p[2*group+1]:]
			}
			return hit[:p[2*group]] + fmt.Sprint(n) + hit[p[2*group+1]:]
		})
	}
	o.Raw = shift(sizeRx, 2, shift(pointerRx, 1, shift(offsetRx, 1, o.Raw)))
	o.File = shift(sizeRx, 2, o.File)
}

// newLabWith is newLab with something to do before the mail system starts.
func newLabWith(t testing.TB, o world.Options, noQueueManager bool, prepare func(l *lab)) *lab {
	t.Helper()
	return makeLab(t, o, noQueueManager, prepare)
}

func newLab(t testing.TB, o world.Options, noQueueManager bool) *lab {
	t.Helper()
	return makeLab(t, o, noQueueManager, func(*lab) {})
}

// listen starts a sink.
func listen(t testing.TB, l *lab, address string, s *sink) {
	t.Helper()
	ln, err := l.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go s.serve(ln)
}

var deliveryMasks = []struct {
	rx *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`delays?=[0-9./]+`), "delay"},
	{regexp.MustCompile(`(queued as|id|ID) [0-9A-F]{9,}`), "$1 ID"},
	{regexp.MustCompile(`size=\d+`), "size=N"},
	{regexp.MustCompile(`\d{14}\.ID@`), "DATE.ID@"},
	{regexp.MustCompile(` PORT=\d+`), " PORT=N"},
	{regexp.MustCompile(`(?m)^qmgr: ID: removed\n`), ""},
	{regexp.MustCompile(`status=sent .*`), "status=sent"},
}

func maskDelivery(s string) string {
	for _, m := range deliveryMasks {
		s = m.rx.ReplaceAllString(s, m.to)
	}
	return s
}

func sortLines(s string) string {
	lines := strings.Split(s, "\n")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
