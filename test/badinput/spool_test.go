package badinput

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"posthaste/test/world"
)

// spooled is something that does not belong into a queue directory, or not in
// this state. The script makes it; $f is its path. Log lines that mention the
// name and where the file is afterwards are compared.
type spooled struct {
	name, file, script string
	differs            string
}

// good is a complete maildrop file for alice, as a shell command.
const good = `printf 'T\02217000000001 000000S\003bobR\005aliceM\000N\002okX\000E\000' >"$f"; chown bob:postdrop "$f"; chmod 744 "$f"`

var spooledFiles = []spooled{
	{name: "maildrop garbage", file: "maildrop/ABC0000001", script: `head -c 3000 /bin/ls >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop empty", file: "maildrop/ABC0000002", script: `: >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop unfinished mode", file: "maildrop/ABC0000003", script: `: >"$f"; chown bob "$f"; chmod 644 "$f"`},
	{name: "maildrop directory", file: "maildrop/ABC0000004", script: `mkdir "$f"`},
	{name: "maildrop symlink", file: "maildrop/ABC0000005", script: `ln -s /etc/passwd "$f"`},
	{name: "maildrop fifo", file: "maildrop/ABC0000006", script: `mkfifo -m 744 "$f"`},
	{name: "maildrop hard link", file: "maildrop/ABC0000007", script: good + `; ln "$f" "$f"9`},
	{name: "maildrop foreign name", file: "maildrop/not-an-id.txt", script: good},
	{name: "maildrop truncated", file: "maildrop/ABC0000008", script: `printf 'S\003bobR\005alic' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop no end record", file: "maildrop/ABC0000009", script: `printf 'S\003bobR\005aliceM\000N\002okX\000' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop giant record", file: "maildrop/ABC000000A", script: `printf 'S\003bobN\377\377\377\377\177' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop negative length", file: "maildrop/ABC000000B", script: `printf 'S\377\377\377\377\377\377\377\377\377\177' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop forged records", file: "maildrop/ABC000000C", script: `printf 'C\017              1S\003bobR\005aliceM\000N\002okX\000E\000' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop pointer", file: "maildrop/ABC000000D", script: `printf 'S\003bobR\005aliceM\000p\00200N\002okX\000E\000' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop no recipient", file: "maildrop/ABC000000E", script: `printf 'S\003bobM\000N\002okX\000E\000' >"$f"; chown bob "$f"; chmod 744 "$f"`},
	{name: "maildrop owned by postfix", file: "maildrop/ABC000000F", script: good + `; chown postfix "$f"`},
	{name: "maildrop world-writable", file: "maildrop/ABC0000010", script: good + `; chmod 766 "$f"`},

	{name: "incoming garbage", file: "incoming/ABC1000001", script: `head -c 3000 /bin/ls >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "incoming empty", file: "incoming/ABC1000002", script: `: >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "incoming unfinished mode", file: "incoming/ABC1000003", script: `: >"$f"; chown postfix "$f"; chmod 600 "$f"`},
	{name: "incoming directory", file: "incoming/ABC1000005", script: `mkdir -m 700 "$f"; chown postfix "$f"`},
	{name: "incoming symlink", file: "incoming/ABC1000006", script: `ln -s /etc/passwd "$f"`},
	{name: "incoming foreign name", file: "incoming/foreign.txt", script: `echo hello >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "incoming size record garbage", file: "incoming/ABC1000007", script: `printf 'C\003x yS\003bob' >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "incoming size record negative", file: "incoming/ABC1000008", script: `printf 'C\133%15d %15d %15d %15d %15d %15d' -5 -5 -5 0 -5 0 | head -c 97 >"$f"; chown postfix "$f"; chmod 700 "$f"`,
		differs: "no second complaint (recipient count) about a file that is given up"},
	{name: "incoming size record beyond end", file: "incoming/ABC1000009", script: `printf 'C\137%15d %15d %15d %15d %15d %15dT\01217000000001S\003bobM\000' 99999 99999 1 0 99999 0 >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "incoming truncated in a record", file: "incoming/ABC100000A", script: `printf 'C\137%15d %15d %15d %15d %15d %15dT\01217000000001S\100bob' 10 200 1 0 10 0 >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "deferred garbage", file: "deferred/A/ABC2000001", script: `mkdir -p "${f%/*}"; chown postfix "${f%/*}"; chmod 700 "${f%/*}"; head -c 3000 /bin/ls >"$f"; chown postfix "$f"; chmod 700 "$f"; touch -d '2 hours ago' "$f"`},
	{name: "deferred symlink", file: "deferred/A/ABC2000002", script: `mkdir -p "${f%/*}"; ln -s /etc/passwd "$f"`},
	{name: "deferred foreign directory", file: "deferred/foreign", script: `mkdir "$f"; echo x >"$f/file"; chown -R postfix "$f"`},
	{name: "hold garbage", file: "hold/ABC3000001", script: `head -c 3000 /bin/ls >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "hold directory", file: "hold/ABC3000002", script: `mkdir "$f"; chown postfix "$f"`},
	{name: "active stray", file: "active/ABC4000001", script: `head -c 3000 /bin/ls >"$f"; chown postfix "$f"; chmod 700 "$f"`},
	{name: "active directory", file: "active/ABC4000002", script: `mkdir "$f"; chown postfix "$f"`},
	{name: "defer log garbage", file: "defer/A/ABC5000001", script: `mkdir -p "${f%/*}"; chown postfix "${f%/*}"; chmod 700 "${f%/*}"; head -c 3000 /bin/ls >"$f"; chown postfix "$f"; chmod 600 "$f"`},
	{name: "corrupt stays", file: "corrupt/ABC6000001", script: `head -c 3000 /bin/ls >"$f"; chown postfix "$f"; chmod 700 "$f"`},
}

// about looks at what the commands say of all these files at once.
var spoolCommands = []spooled{
	{name: "postqueue -p", script: `postqueue -p | grep -v waiting | grep -E 'ABC|warning|passwd' | sort`},
	{name: "postcat each", script: `for f in incoming/ABC* corrupt/ABC* hold/ABC* maildrop/ABC0000001; do postcat -e "$f" 2>&1 | strings | head -5; done | sort | uniq`, differs: "postcat goes on behind a damaged record (docs/differences.md)"},
	{name: "postsuper -s", script: `postsuper -s 2>&1 | grep -v 'Successful\|Renamed\|old name\|inode' | sort`},
	{name: "postsuper -p", script: `postsuper -p 2>&1 | sort`},
}

func spoolReasons() map[string]string {
	m := map[string]string{}
	for _, s := range slices.Concat(spooledFiles, spoolCommands) {
		m[s.name] = s.differs
	}
	return m
}

// runSpool puts all files into their places, lets the daemons find them, and
// looks again.
func runSpool(w *world.World, o *observation) {
	mark := len(w.Syslog())
	var script strings.Builder
	script.WriteString("cd /var/spool/postfix || exit 1; umask 022\n")
	for _, s := range spooledFiles {
		fmt.Fprintf(&script, "f=%s; %s\n", s.file, s.script)
	}
	if r := w.Sh(script.String()); r.Code != 0 || r.Err != "" {
		o.trouble("spool: %v", r)
	}
	w.Run("", "timeout", "20", "sh", "-c", "for r in 'pickup W' 'qmgr I' 'qmgr A' 'qmgr D'; do postkick public $r; done")
	quiet(w, 1300*time.Millisecond, 10*time.Second) // Debian's sleep a second in a fatal error
	files := w.Sh(`cd /var/spool/postfix && find maildrop incoming active deferred hold corrupt defer -printf '%p %y %m %n\n'`).Out
	for _, s := range spooledFiles {
		base := s.file[strings.LastIndexByte(s.file, '/')+1:]
		var where []string
		for line := range strings.Lines(files) {
			if strings.Contains(line, base) {
				where = append(where, line)
			}
		}
		slices.Sort(where)
		log := logSince(w, mark, func(line string) bool { return strings.Contains(line, base) })
		o.put("spool", s.name, fmt.Sprintf("files:\n%slog:\n%s", strings.Join(where, ""), distinct(renamed.ReplaceAllString(log, "ID"))))
	}
	for _, s := range spoolCommands {
		r := w.Run("", "timeout", "15", "/bin/bash", "-c", "cd /var/spool/postfix; "+s.script)
		o.put("spool", s.name, fmt.Sprintf("exit %d\n%s%s", r.Code, r.Out, r.Err))
	}
	w.Sh(`cd /var/spool/postfix; rm -rf $(find maildrop incoming active deferred hold corrupt defer -mindepth 1 \( -name 'ABC*' -o -name 'foreign*' -o -name 'not-an*' \) )`)
}

// renamed are ids of messages that were made of our files.
var renamed = regexp.MustCompile(`\b[0-9A-F]{10,12}\b`)

// distinct sorts lines and drops repetitions: several processes write, and a
// queue may be scanned more than once.
func distinct(text string) string {
	lines := strings.Split(strings.TrimSuffix(mask(text), "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n") + "\n"
}

// quiet waits until nothing was logged for a while.
func quiet(w *world.World, silence, patience time.Duration) {
	last, since := w.CountLog("\n"), time.Now()
	for end := time.Now().Add(patience); time.Now().Before(end) && time.Since(since) < silence; time.Sleep(10 * time.Millisecond) {
		if n := w.CountLog("\n"); n != last {
			last, since = n, time.Now()
		}
	}
}
