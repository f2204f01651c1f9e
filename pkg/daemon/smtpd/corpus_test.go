package smtpd

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/wire/dns"
)

// script is one session of testdata/corpus.txt.
type script struct {
	name    string
	options [][2]string
	steps   []string
	files   [][2]string // name below /etc/postfix, line to append
	maps    []string    // tables for postmap
	helper  []string    // rules of a scripted server, see helper_test.go
	group   string      // the file it comes from
}

func readCorpus(t testing.TB) []script {
	t.Helper()
	return readScripts(t, "testdata/corpus.txt")
}

// readScripts reads a file of sessions; the format is explained in
// testdata/sessions/README.
func readScripts(t testing.TB, file string) []script {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []script
	in := bufio.NewScanner(f)
	for in.Scan() {
		line := in.Text()
		switch {
		case strings.HasPrefix(line, "== "):
			all = append(all, script{name: line[3:], group: strings.TrimSuffix(filepath.Base(file), ".txt")})
		case len(all) == 0 || line == "" || line[0] == '#':
		case strings.HasPrefix(line, "o: "):
			name, value, _ := strings.Cut(line[3:], " = ")
			if strings.HasSuffix(name, " =") {
				name, value = strings.TrimSuffix(name, " ="), ""
			}
			s := &all[len(all)-1]
			s.options = append(s.options, [2]string{name, value})
		case strings.HasPrefix(line, "f: "):
			name, value, _ := strings.Cut(line[3:], " ")
			s := &all[len(all)-1]
			s.files = append(s.files, [2]string{name, value})
		case strings.HasPrefix(line, "postmap: "):
			s := &all[len(all)-1]
			s.maps = append(s.maps, line[9:])
		case strings.HasPrefix(line, "h:"):
			s := &all[len(all)-1]
			s.helper = append(s.helper, strings.TrimSpace(line[2:]))
		default:
			s := &all[len(all)-1]
			s.steps = append(s.steps, line)
		}
	}
	return all
}

// baseConfig is main.cf for all sessions; "stop" parameters that would make
// the original deliver are set by the recorder.
var baseConfig = [][2]string{
	{"compatibility_level", "3.6"}, {"myhostname", "mail.example.com"}, {"mydomain", "example.com"}, {"myorigin", "$myhostname"},
	{"mydestination", "$myhostname, localhost"}, {"inet_protocols", "ipv4"}, {"inet_interfaces", "loopback-only"},
	{"mynetworks", "127.0.0.0/8"}, {"relay_domains", "relay.example"}, {"recipient_delimiter", "+"}, {"mail_name", "Postfix"},
	{"smtpd_banner", "$myhostname ESMTP $mail_name"}, {"alias_maps", ""}, {"smtpd_tls_security_level", "none"},
	{"local_recipient_maps", "inline:{bob=x, alice=x}"}, {"virtual_mailbox_domains", "virt.example"},
	{"virtual_mailbox_maps", "inline:{vm@virt.example=x}"}, {"virtual_alias_domains", "alias.example"},
	{"virtual_alias_maps", "inline:{va@alias.example=bob}"}, {"smtpd_error_sleep_time", "0"},
	{"smtpd_forbid_bare_newline", "normalize"}, {"smtpd_forbid_unauth_pipelining", "yes"}, {"smtpd_forbid_bare_newline_exclusions", ""},
	{"smtpd_client_connection_count_limit", "0"}, {"smtpd_relay_restrictions", "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"},
	{"smtpd_per_request_deadline", "no"}, {"notify_classes", ""}, {"virtual_transport", "virtual"},
}

// corpusZone is the DNS of the sessions.
func corpusZone() *dns.Fake {
	f := new(dns.Fake)
	f.Add("b.example", "MX 10 mx.b.example").Add("mx.b.example", "A 192.0.2.25").Add("null.example", "MX 0 .")
	f.Fail = map[string]dns.Status{"fail.example": dns.Temporary}
	f.Names = map[string]string{"127.0.0.1": "localhost"}
	f.Hosts = map[string][]string{"localhost": {"127.0.0.1"}}
	return f
}

// play runs a script on a connection and returns the conversation.
func play(t testing.TB, s script, conn net.Conn) string {
	t.Helper()
	var b strings.Builder
	in := bufio.NewReader(conn)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	over := false
	read := func() {
		for !over {
			line, err := in.ReadString('\n')
			if err != nil {
				b.WriteString("S: <EOF>\n")
				over = true
				return
			}
			fmt.Fprintf(&b, "S: %s\n", strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
			if len(line) < 4 || line[3] != '-' {
				return
			}
		}
	}
	pending := ""
	send := func(text string) {
		conn.Write([]byte(pending + text))
		pending = ""
	}
	// secure goes on under TLS; the server's certificate does not matter here.
	secure := func() {
		under := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := under.Handshake(); err != nil {
			fmt.Fprintf(&b, "S: <no TLS>\n")
			over = true
			return
		}
		conn, in = under, bufio.NewReader(under)
	}
	greeted := false
	greeting := func() {
		if !greeted {
			greeted = true
			read()
		}
	}
	for _, step := range s.steps {
		kind, text, _ := strings.Cut(step, ":")
		text = strings.TrimPrefix(text, " ")
		if kind != "first" && kind != "TLS" && kind != "half" && kind != "sleep" && kind != "X" {
			greeting()
		}
		if over {
			break
		}
		fmt.Fprintf(&b, "%s\n", step)
		switch kind {
		case "C":
			send(expandStep(text) + "\r\n")
			read()
		case "W":
			pending += expandStep(text) + "\r\n"
		case "R", "X", "first":
			raw, err := strconv.Unquote(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", s.name, step, err)
			}
			raw = expandStep(raw)
			send(raw)
			if kind == "R" {
				read()
			}
		case "TLS": // wrapper mode: before the greeting
			secure()
		case "STARTTLS":
			send("STARTTLS\r\n")
			read()
			if strings.Contains(b.String()[max(0, b.Len()-60):], "S: 220 ") {
				secure()
			}
		case "sleep":
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", s.name, step, err)
			}
			time.Sleep(d)
		case "half": // no more from us, but we listen
			if c, ok := conn.(*net.TCPConn); ok {
				c.CloseWrite()
			}
		case "read":
			read()
		case "close":
			conn.Close()
			return b.String()
		default:
			t.Fatalf("%s: unknown step %q", s.name, step)
		}
	}
	greeting()
	if pending != "" {
		send("")
	}
	conn.Close()
	return b.String()
}

// expandStep turns "@N*text@" into N times that text, for lines nobody wants
// to see in a file.
func expandStep(raw string) string {
	return repeated.ReplaceAllStringFunc(raw, func(m string) string {
		count, text, _ := strings.Cut(strings.Trim(m, "@"), "*")
		n, _ := strconv.Atoi(count)
		return strings.Repeat(text, n)
	})
}

var (
	repeated   = regexp.MustCompile(`@\d+\*[^@]*@`)
	maskQueued = regexp.MustCompile(`queued as [0-9A-Za-z]+`)
	maskID     = regexp.MustCompile(`^(warning: )?[0-9A-F]{6,}: `)
	maskBytes  = regexp.MustCompile(`queue: \d+ bytes <`)
)

// mask hides what differs from run to run.
func mask(line string) string {
	line = maskQueued.ReplaceAllString(line, "queued as QUEUEID")
	line = maskBytes.ReplaceAllString(line, "queue: N bytes <")
	line = maskID.ReplaceAllString(line, "${1}QUEUEID: ")
	return line
}

// unimportant log lines: noise of Debian's libraries.
func unimportant(line string) bool {
	return strings.Contains(line, "dict_nis_init")
}
