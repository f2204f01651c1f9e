package postconf

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"posthaste/pkg/command"
	"posthaste/test/world"
)

// editor makes random edits. What Debian's program does wrong on purpose of
// nobody (docs/differences.md) is left out: arguments with braces, empty
// fields, two new names in one command (appended in random order).
type editor struct{ *rand.Rand }

func (r editor) pick(words string) string {
	list := strings.Split(words, "|")
	return list[r.IntN(len(list))]
}

func (r editor) service() string {
	return r.pick("smtp|smtp|submission|cleanup|qmgr|local|maildrop|tlsmgr|*|nosuch|new1") + "/" + r.pick("inet|unix|unix|unix|*|fifo")
}

// setting is "name = value" in one of its spellings.
func (r editor) setting(name string) string {
	return name + r.pick("=| = |  =|= ") + r.pick("no|yes||$myhostname|a  b|${x?{y}:{z}}|x # y|hash:/etc/aliases, nis:x|1") + r.pick("|| ")
}

const (
	known   = "biff|relayhost|smtpd_banner|mydestination|compatibility_level|user1"
	unknown = "new1|new2|NEW|biff2|$x|a.b"
)

// arguments returns one command line.
func (r editor) arguments() []string {
	switch r.IntN(13) {
	case 0, 1:
		return []string{"-e", r.setting(r.pick(known)), r.setting(r.pick(unknown))}
	case 2:
		return []string{r.setting(r.pick(known + "|" + unknown))}
	case 3:
		return []string{"-X", r.pick(known + "|" + unknown)}
	case 4:
		return []string{"-#", r.pick(known + "|" + unknown)}
	case 5:
		name, kind := r.pick("smtp|cleanup|new1|new2"), r.pick("inet|unix")
		return []string{"-Me", name + "/" + kind + "=" + name + " " + kind + " n - - - " + r.pick("-|1|100") + " " + r.pick("smtpd|smtp -v|pipe  user=x argv=/y ${z}|cmd -o a=b -vo c=d -m 5 x|lmtp -o {a = b c}")}
	case 6:
		return []string{"-MX", r.service()}
	case 7:
		return []string{"-M#", r.service()}
	case 8, 9:
		return []string{"-Fe", r.service() + "/" + r.pick("private=n|chroot=y|chroot=-|wakeup=10?|process_limit=5|command=smtpd -v|command=cmd -o x=y z|unprivileged = n|wakeup=x|nosuch=y|service=new3|type=pass")}
	case 10, 11:
		return []string{"-Pe", r.service() + "/" + r.pick("biff|smtpd_tls_security_level|syslog_name|a") + "=" + r.pick("no|x|$y|")}
	}
	return []string{"-PX", r.service() + "/" + r.pick("biff|smtpd_tls_security_level|syslog_name|a")}
}

// editedFiles are what the sequences start from.
var editedFiles = map[string]string{
	"main.cf": `# first
compatibility_level = 3.6
myhostname = m.example.com

biff = no
# about the banner
smtpd_banner = $myhostname
  ESMTP
# inside
	more
#relayhost = commented
relayhost=a
mydestination =
    a, b,

    c
user1 = $biff
relayhost = b
# last
`,
	"master.cf": `# first
smtp      inet  n       -       y       -       -       smtpd
#smtp      inet  n       -       y       -       1       postscreen
#  -o never=seen
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
# inside
  -o smtpd_tls_security_level=encrypt -o biff=no

# about cleanup
cleanup   unix  n       -       y       -       0       cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr    unix  -       -       y       1000?   1       tlsmgr
smtp      unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
#       -o smtp_helo_timeout=5
local     unix  -       n       n       -       -       local
# about maildrop
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} and some more words to make the line long
# last
`,
}

// TestEdits runs random sequences of edits through both programs: the files
// are the same afterwards, byte for byte.
func TestEdits(t *testing.T) {
	b := newBench(t)
	const sequences, length = 200, 4
	r := editor{rand.New(rand.NewPCG(5, 11))}
	dir := b.configuration("edits", editedFiles)
	var lines strings.Builder
	commands := make([][][]string, sequences)
	for i := range sequences {
		for range length {
			commands[i] = append(commands[i], r.arguments())
		}
		for side, program := range []string{theirs, world.Inside(world.Ours) + theirs} {
			fmt.Fprintf(&lines, "cp -a %s %s.%d.%d; cd %s.%d.%d", dir, dir, i, side, dir, i, side)
			for _, args := range commands[i] {
				fmt.Fprintf(&lines, "; %s -c .", program)
				for _, a := range args {
					fmt.Fprintf(&lines, " '%s'", a)
				}
				lines.WriteString(" >>out 2>>err; echo $? >>exit")
			}
			lines.WriteString("\n")
		}
	}
	b.shell(lines.String())
	for i := range sequences {
		var files [2][4]string
		for side := range files {
			for k, name := range []string{"main.cf", "master.cf", "exit", "err"} {
				files[side][k] = sorted(strings.ReplaceAll(get(b.w.Path(fmt.Sprintf("%s.%d.%d", dir, i, side)), name), world.Inside(world.Ours), ""), name == "err")
			}
		}
		if files[0] != files[1] {
			t.Errorf("%q:%s%s%s%s", commands[i], difference("main.cf", files[1][0], files[0][0]), difference("master.cf", files[1][1], files[0][1]),
				difference("exit status", files[1][2], files[0][2]), difference("messages", files[1][3], files[0][3]))
		}
	}
}

// mangle makes a random configuration of the lines of the corpus.
func mangle(r *rand.Rand, lines []string) string {
	const bytes = "${}()?:=<>!#,-/ \t\nab1*\"\\\x80"
	var text strings.Builder
	for range 1 + r.IntN(6) {
		line := []byte(lines[r.IntN(len(lines))])
		for range r.IntN(3) {
			at := r.IntN(len(line) + 1)
			switch {
			case r.IntN(3) > 0 || at == len(line):
				line = append(line[:at:at], append([]byte{bytes[r.IntN(len(bytes))]}, line[at:]...)...)
			default:
				line = append(line[:at:at], line[at+1:]...)
			}
		}
		text.Write(append(line, '\n'))
	}
	return text.String()
}

// corpusLines returns the lines of all files of that name in the corpus.
func corpusLines(t *testing.T, file string) []string {
	names, files, _ := corpus(t)
	var lines []string
	for _, name := range names {
		for line := range strings.Lines(files[name][file]) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// TestMangled runs mangled configurations through both programs: both accept
// them, with the same output, or both refuse them. MANGLED_SEED=N in the
// environment makes other ones.
func TestMangled(t *testing.T) {
	b := newBench(t)
	seed := uint64(1)
	if text := os.Getenv("MANGLED_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(seed, 2))
	main, master := corpusLines(t, "main.cf"), corpusLines(t, "master.cf")
	head := "compatibility_level = 3.6\nmyhostname = m.example.com\ninet_interfaces = all\n"
	for i := range 400 {
		files := map[string]string{"main.cf": head + mangle(r, main), "master.cf": smallMaster}
		args := []string{"-nx"}
		if i%4 == 0 {
			files = map[string]string{"main.cf": head, "master.cf": mangle(r, master)}
			args = []string{"-Mx"}
		}
		b.jobs = append(b.jobs, job{b.configuration(fmt.Sprintf("mangled.%d", i), files), args, false})
	}
	b.run()
	accepted := 0
	for i, j := range b.jobs {
		want, got := b.outcome(i, 0).comparable(false), b.outcome(i, 1).comparable(true)
		if want.exit == "0" {
			accepted++
		}
		if want.exit != got.exit || want.out != got.out {
			t.Errorf("postconf %q of\n%s\n%s%s%s%s", j.args, get(b.w.Path(j.dir), "main.cf"), get(b.w.Path(j.dir), "master.cf"),
				difference("exit status", got.exit, want.exit), difference("stdout", got.out, want.out), difference("messages", got.err, want.err))
		}
	}
	if accepted < 100 || accepted > len(b.jobs)-100 {
		t.Errorf("%d of %d configurations are accepted: little is tested", accepted, len(b.jobs))
	}
}

// FuzzConfiguration: no text of main.cf and master.cf makes postconf panic.
func FuzzConfiguration(f *testing.F) {
	f.Add("a = ${b?{c}:$d}\n  e\n", smallMaster)
	f.Add("smtpd_restriction_classes = a\na=$a\n", "x unix - - - - - y -o { a = b } {\n")
	f.Fuzz(func(t *testing.T, main, master string) {
		dir := t.TempDir()
		put(t, dir, "main.cf", &main)
		put(t, dir, "master.cf", &master)
		for _, args := range [][]string{{"-nx", "-o", "inet_interfaces=127.0.0.1"}, {"-Mfx"}, {"-F"}, {"-P"}} {
			var out, stderr bytes.Buffer
			Run(append([]string{"postconf", "-c", dir}, args...), command.Env{Stdout: &out, Stderr: &stderr})
		}
	})
}
