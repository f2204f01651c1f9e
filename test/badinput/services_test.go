package badinput

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"posthaste/test/world"
)

// service is an smtpd with settings that are wrong; the probe is a short
// session on a port of its own.
type service struct {
	name    string
	options string // -o options
	differs string
}

var services = []service{
	{name: "mynetworks pattern", options: "-o mynetworks=127.0.0.0/99",
		differs: "smtpd_forbid_bare_newline_exclusions, a list of 3.9, contains mynetworks and complains, too"},
	{name: "mynetworks host bits", options: "-o mynetworks=127.0.0.1/8",
		differs: "smtpd_forbid_bare_newline_exclusions, a list of 3.9, contains mynetworks and complains, too"},
	{name: "mynetworks text", options: "-o mynetworks=bogus:"},
	{name: "mynetworks missing file", options: "-o mynetworks=/nonexistent/file",
		differs: "smtpd_forbid_bare_newline_exclusions, a list of 3.9, contains mynetworks and complains, too"},
	{name: "mynetworks bracket", options: "-o mynetworks=[::1"},
	{name: "mynetworks missing table", options: "-o mynetworks=hash:/nonexistent/table",
		differs: "smtpd_forbid_bare_newline_exclusions, a list of 3.9, contains mynetworks and complains, too"},
	{name: "mydestination missing table", options: "-o mydestination=hash:/nonexistent/table",
		differs: "known and not mended: 3.7.11 refuses (451) also recipients of clients in mynetworks"},
	{name: "mydestination unknown type", options: "-o mydestination=nosuch:/x",
		differs: "known and not mended: 3.7.11 refuses (451) also recipients of clients in mynetworks"},
	{name: "relay_domains missing file", options: "-o relay_domains=/nonexistent/file",
		differs: "known and not explained: the error line about the file is missing, the reply is the same"},
	{name: "restriction unknown", options: "-o smtpd_recipient_restrictions=nosuch_restriction,reject_unauth_destination"},
	{name: "restriction without table", options: "-o smtpd_recipient_restrictions=check_client_access"},
	{name: "restriction table type", options: "-o smtpd_recipient_restrictions=check_client_access,reject,reject_unauth_destination"},
	{name: "restriction table missing", options: "-o {smtpd_recipient_restrictions=check_recipient_access hash:/nonexistent/t, reject_unauth_destination}"},
	{name: "restriction none protects", options: "-o smtpd_relay_restrictions= -o smtpd_recipient_restrictions=permit"},
	{name: "restriction bad sleep", options: "-o {smtpd_client_restrictions=sleep x}"},
	{name: "restriction bad action", options: "-o {smtpd_recipient_restrictions=check_recipient_access static:{FROB x}, reject_unauth_destination}"},
	{name: "restriction bad code", options: "-o {smtpd_recipient_restrictions=check_recipient_access static:{999 x}, reject_unauth_destination}"},
	{name: "restriction filter without service", options: "-o {smtpd_recipient_restrictions=check_recipient_access static:{FILTER x}, reject_unauth_destination}"},
	{name: "restriction redirect", options: "-o {smtpd_recipient_restrictions=check_recipient_access static:{REDIRECT x}, reject_unauth_destination}"},
	{name: "restriction defer_if empty", options: "-o {smtpd_recipient_restrictions=defer_if_permit, reject_unauth_destination}"},
	{name: "reject code", options: "-o unknown_local_recipient_reject_code=999"},
	{name: "number text", options: "-o smtpd_recipient_limit=many"},
	{name: "number below bound", options: "-o smtpd_recipient_limit=0"},
	{name: "number huge", options: "-o smtpd_hard_error_limit=99999999999"},
	{name: "time text", options: "-o smtpd_timeout=later"},
	{name: "time zero", options: "-o smtpd_timeout=0"},
	{name: "bool text", options: "-o smtpd_helo_required=perhaps"},
	{name: "noop commands bad", options: "-o smtpd_noop_commands=nosuch:/x"},
	{name: "command filter missing", options: "-o smtpd_command_filter=regexp:/nonexistent/t"},
	{name: "banner wrong", options: "-o smtpd_banner=wrong"},
	{name: "local_recipient_maps missing", options: "-o local_recipient_maps=hash:/nonexistent/t"},
	{name: "ehlo keywords", options: "-o smtpd_discard_ehlo_keywords=nosuch,pipelining"},
	{name: "debug peer", options: "-o debug_peer_list=hash:/nonexistent/t"},
	{name: "option without =", options: "-o lonely"},
	{name: "unknown option letter", options: "-Q"},
	{name: "tls level", options: "-o smtpd_tls_security_level=nonsense"},
	{name: "tls missing certificate", options: "-o smtpd_tls_security_level=may -o smtpd_tls_cert_file=/nonexistent/cert.pem"},
	{name: "milter syntax", options: "-o smtpd_milters=nonsense:", differs: "a mistake in smtpd_milters costs the session, not the process (docs/differences.md)"},
	{name: "program missing", options: "!nosuchprogram",
		differs: "master itself says so, no child ends with status 1 (docs/differences.md)"},
	{name: "program not executable", options: "!../../../../etc/passwd",
		differs: "master itself says so, no child ends with status 1 (docs/differences.md)"},
}

func serviceReasons() map[string]string {
	m := map[string]string{}
	for _, s := range services {
		m[s.name] = s.differs
	}
	return m
}

const firstPort = 3000

func addServices(w *world.World) error {
	f, err := os.OpenFile(w.Path("/etc/postfix/master.cf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for i, s := range services {
		program := "smtpd -o syslog_name=case" + fmt.Sprint(i) + " " + s.options
		if s.options[0] == '!' {
			program = s.options[1:]
		}
		if _, err := fmt.Fprintf(f, "127.0.0.1:%d inet n - n - - %s\n", firstPort+i, program); err != nil {
			return err
		}
	}
	return nil
}

// runServices talks to all of them at once; which log lines belong to which is
// told by syslog_name, and by the process id before that is known.
func runServices(w *world.World, o *observation) {
	mark := len(w.Syslog())
	var all sync.WaitGroup
	slots := make(chan bool, 6)
	replies := make([]string, len(services))
	for i := range services {
		all.Go(func() {
			slots <- true
			defer func() { <-slots }()
			conn, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+i))
			if err != nil {
				replies[i] = err.Error()
				return
			}
			defer conn.Close()
			replies[i] = converseFor(conn, 3*time.Second, []step{send(ehlo), send(from), send(to), send("RCPT TO:<nobody@mail.example.com>\r\n"), send("RCPT TO:<x@elsewhere.test>\r\n"), send("QUIT\r\n")})
		})
	}
	all.Wait()
	quiet(w, 300*time.Millisecond, 3*time.Second)
	for i, s := range services {
		tag := fmt.Sprintf("case%d/", i)
		log := logSince(w, mark, func(line string) bool {
			return strings.Contains(line, tag) || s.options[0] == '!' && strings.Contains(line, s.options[1:])
		})
		log = strings.ReplaceAll(log, tag, "postfix/")
		o.put("service", s.name, replies[i]+"log:\n"+distinct(log))
	}
}
