// Package interchange passes one battery of mail through Debian's suite,
// ours, and each with single programs of the other in it, and compares what
// users, peers and log readers see (DESIGN §4).
//
// A kind of mail leaves a transcript: the SMTP replies or sendmail's exit
// status, every log record of its queue ids (bounces and forwarded copies
// included), the message as each mailbox, file, command and remote host got
// it. Ids, times and process numbers are masked. The transcript of Debian's
// own suite is the reference.
package interchange

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"posthaste/test/world"
)

// run is one passage of the battery through one machine.
type run struct {
	w    *world.World
	sink *sink
}

// patience is how long one kind of mail may take.
const patience = 45 * time.Second

// maxFailed is how many kinds may fail before the others are given up.
const maxFailed = 10

// together is how many kinds are on their way at once.
const together = 6

// maillog is where postlogd writes in cells that have it.
const maillog = "/var/log/mail.log"

// mailLog is all that the mail system has logged.
func mailLog(w *world.World) string {
	data, err := os.ReadFile(w.Path(maillog))
	if err != nil {
		return w.Syslog()
	}
	return w.Syslog() + string(data)
}

// waitLog waits for the record of a delivery.
func waitLog(w *world.World, recipient string) (string, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for line := range strings.Lines(mailLog(w)) {
			if strings.Contains(line, "to=<"+recipient+">") && strings.Contains(line, "status=sent") {
				return line, nil
			}
		}
	}
	return "", fmt.Errorf("%s did not get his mail", recipient)
}

// outcome is what a battery made: a transcript for each kind, and what went
// wrong, one text for each kind that did not arrive and for each record of the
// log that should not be there.
type outcome struct {
	transcripts map[string]string
	failed      []string
}

// battery prepares a machine and passes the kinds through it. A kind that did
// not arrive has its error at the end of its transcript.
func battery(w *world.World, chroot, edit string, kinds []kind) (*outcome, error) {
	if r := w.Sh(prepare, rows, chroot, edit); r.Code != 0 {
		return nil, fmt.Errorf("prepare: %s%s", r.Out, r.Err)
	}
	h, err := startHelpers(w)
	defer h.close()
	if err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, err
	}
	r := &run{w: w, sink: h.sink}
	o := &outcome{transcripts: map[string]string{}}
	var mu sync.Mutex
	one := func(i int) {
		mu.Lock()
		hopeless := len(o.failed) > maxFailed
		mu.Unlock()
		if hopeless {
			return
		}
		text, err := r.pass(kinds[i], kinds[i].tag)
		mu.Lock()
		defer mu.Unlock()
		o.transcripts[kinds[i].name] = text
		if err != nil {
			o.failed = append(o.failed, fmt.Sprintf("%s: %v", kinds[i].name, err))
		}
	}
	// Kinds that flush the queue come last and alone: they would retry the
	// deferred mail of others.
	var wait sync.WaitGroup
	slots := make(chan struct{}, together)
	for i, k := range kinds {
		if !k.flushes {
			slots <- struct{}{}
			wait.Go(func() { one(i); <-slots })
		}
	}
	wait.Wait()
	for i, k := range kinds {
		if k.flushes {
			one(i)
		}
	}
	if err := w.Stop(); err != nil {
		o.failed = append(o.failed, err.Error())
	}
	for line := range strings.Lines(mailLog(w)) {
		if strings.Contains(line, "panic:") || strings.Contains(line, "fatal:") || strings.Contains(line, "bad command startup") {
			o.failed = append(o.failed, "log: "+strings.TrimSpace(line))
		}
	}
	slices.Sort(o.failed)
	return o, nil
}

// pass sends one kind of mail and waits for all that it must cause.
func (r *run) pass(k kind, tag string) (string, error) {
	said, err := k.send(r.w, tag)
	if err != nil {
		return said, err
	}
	text, err := r.await(tag, said, k.want, k.log)
	if err != nil || k.after == nil {
		return text, err
	}
	if err := k.after(r, tag); err != nil {
		return text, err
	}
	return r.await(tag, said, k.want2, nil)
}

// await polls the transcript until it has all texts and has come to rest.
func (r *run) await(tag, said string, want, records []string) (string, error) {
	previous := ""
	for end := time.Now().Add(patience); ; time.Sleep(150 * time.Millisecond) {
		settled := r.settled(tag) // before the transcript is made, which then has all there is
		text := mask(said) + r.transcript(tag)
		for _, s := range records {
			text += r.record(s)
		}
		missing := slices.IndexFunc(want, func(s string) bool { return !strings.Contains(text, s) })
		if missing < 0 && text == previous && !strings.Contains(text, notLogged) && settled {
			return text, nil
		}
		previous = text
		if time.Now().After(end) {
			if missing < 0 && len(records) > 0 {
				return text, fmt.Errorf("does not come to rest, or not all of %q logged: %s", records, text)
			}
			if missing < 0 {
				return text, fmt.Errorf("does not come to rest")
			}
			return text, fmt.Errorf("no %q within %v in\n%s", want[missing], patience, text)
		}
	}
}

// notLogged stands in a transcript for a record that is not there yet.
const notLogged = "(not logged) "

// record is the first log record with a text.
func (r *run) record(text string) string {
	for line := range strings.Lines(mailLog(r.w)) {
		if strings.Contains(line, text) {
			return "log " + mask(process.ReplaceAllString(line, "$1: "))
		}
	}
	return notLogged + text + "\n"
}

var (
	idOf     = regexp.MustCompile(`\]: ([0-9A-F]{6,}|[0-9B-Zb-z]{10,}): `)
	childIDs = regexp.MustCompile(`(?:notification: |forwarded as |queued as )([0-9A-F]{6,}|[0-9B-Zb-z]{10,})`)
)

// ids are the queue ids of a tag's messages in order of appearance: those
// with its Message-ID and the notices about them.
func (r *run) ids(tag string) []string {
	var ids []string
	log := mailLog(r.w)
	for changed := true; changed; {
		changed = false
		for line := range strings.Lines(log) {
			m := idOf.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			if !slices.Contains(ids, m[1]) && (strings.Contains(line, "message-id=<"+tag+"@battery.test>") || strings.Contains(line, "to=<"+tag+"@")) {
				ids, changed = append(ids, m[1]), true
			}
			if !slices.Contains(ids, m[1]) {
				continue
			}
			if c := childIDs.FindStringSubmatch(line); c != nil && !slices.Contains(ids, c[1]) && strings.Contains(log, ": "+c[1]+": message-id=") {
				ids, changed = append(ids, c[1]), true
			}
		}
	}
	return ids
}

func (r *run) lastID(tag string) string {
	ids := r.ids(tag)
	if len(ids) == 0 {
		return "none"
	}
	return ids[0]
}

// settled says whether every message of the tag is removed, deferred or held.
func (r *run) settled(tag string) bool {
	log := mailLog(r.w)
	for _, id := range r.ids(tag) {
		if !strings.Contains(log, ": "+id+": removed") && !strings.Contains(log, ": "+id+": hold: ") && !deferred(log, id) {
			return false
		}
	}
	return true
}

func deferred(log, id string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, ": "+id+": ") && strings.Contains(line, "status=deferred") {
			return true
		}
	}
	return false
}

var process = regexp.MustCompile(`^.*? (postfix\S*)\[\d+\]: `)

// transcript is all that became of a tag's messages.
func (r *run) transcript(tag string) string {
	var lines []string
	ids := r.ids(tag)
	for line := range strings.Lines(mailLog(r.w)) {
		if m := idOf.FindStringSubmatch(line); m != nil && slices.Contains(ids, m[1]) {
			lines = append(lines, process.ReplaceAllString(line, "$1: "))
		}
	}
	text := mask(strings.Join(lines, ""))
	lines = slices.Collect(strings.Lines(text))
	slices.Sort(lines)
	text = strings.Join(slices.Compact(lines), "") // a retry logs the same again
	for _, user := range []string{"alice", "bob"} {
		files, _ := filepath.Glob(r.w.Path("/home/" + user + "/Maildir/new/*"))
		text += collect("maildir /home/"+user, files, tag)
	}
	text += collect("file", []string{r.w.Path("/var/mail/prog.out")}, tag)
	text += mask(mboxPart(r.w.Path("/var/mail/archive"), tag))
	for _, m := range r.sink.Mail("<" + tag + "@battery.test>") {
		text += mask(m) + "\n"
	}
	return text
}

// collect returns the messages among files that are about tag.
func collect(title string, files []string, tag string) string {
	var found []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && mentions(string(data), tag) {
			found = append(found, title+"\n"+string(data)+"\n")
		}
	}
	for i := range found {
		found[i] = mask(found[i])
	}
	slices.Sort(found)
	return strings.Join(found, "")
}

func mentions(text, tag string) bool {
	return strings.Contains(text, "<"+tag+"@battery.test>") || strings.Contains(text, "<"+tag+"@sink.test>")
}

func mboxPart(path, tag string) string {
	data, err := os.ReadFile(path)
	if err != nil || !mentions(string(data), tag) {
		return ""
	}
	return "mbox\n" + string(data)
}

// masks hide what differs from run to run.
var masks = []struct{ re, with string }{
	{`\b[0-9A-F]{9,15}\b`, "ID"},
	{`\b[0-9A-F]{6,8}\b([:.!;@\s>)/])`, "ID$1"},
	{`(Mon|Tue|Wed|Thu|Fri|Sat|Sun), +\d+ \w+ \d+ [\d:]+ [-+]\d+( \(\w+\))?`, "DATE"},
	{`(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w+ [ \d]\d [\d:]+ \d{4}`, "DATE"},
	{`delay=[\d.]+, delays=[\d./]+`, "delay=D, delays=D"},
	{`<\d{14}\.ID@`, "<TIME.ID@"},
	{`/\d{10}\.ID`, "/TIME.ID"},
	{`ID\.\d{10}/`, "ID.TIME/"},
	{`uid=\d+`, "uid=U"},
	{`client=localhost\[(127\.0\.0\.1|::1)\](:\d+)?`, "client=C"},
	{`\[127\.0\.0\.1\]:\d{5}\b`, "[127.0.0.1]:PORT"},
	{`conn_use=\d+, `, ""},
	{`queued as \S+`, "queued as Q"},
	{`\b[no]qmgr: `, "qmgr: "},
}

var masking = sync.OnceValue(func() (list []struct {
	re   *regexp.Regexp
	with string
}) {
	for _, m := range masks {
		list = append(list, struct {
			re   *regexp.Regexp
			with string
		}{regexp.MustCompile(m.re), m.with})
	}
	return
})

func mask(s string) string {
	for _, m := range masking() {
		s = m.re.ReplaceAllString(s, m.with)
	}
	return strings.ReplaceAll(s, "\r\n", "\n")
}
