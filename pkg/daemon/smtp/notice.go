package smtp

import (
	"context"
	"strings"
	"time"

	"posthaste/pkg/ipc/cleanup"
)

// maxHistory bounds the lines of a transcript.
const maxHistory = 2000

// recording reports whether a transcript is kept for the postmaster.
func (s *session) recording() bool { return s.d.notify["protocol"] }

func (s *session) note(line string) {
	if len(s.history) < maxHistory {
		s.history = append(s.history, line)
	}
}

// notice mails the transcript of a session in which the server broke the
// protocol (delivery.md §2.14).
func (s *session) notice(r *request) {
	history := s.history
	s.history = nil
	if !s.protocol || !s.recording() || r.j.Sender == "" || isDoubleBounce(r.j.Sender, r.d.doubleBounce) {
		return
	}
	s.protocol = false
	d := r.d
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		p, err := cleanup.NewPost(ctx, d.conf, cleanup.PostOptions{Sender: d.doubleBounce, Recipient: d.errorNotice, Class: cleanup.ClassNotify, NoWait: true, Log: d.log})
		if err != nil {
			d.log.Warn("postmaster notify: %v", err)
			return
		}
		from, to := "Mail Delivery System <MAILER-DAEMON>", "Postmaster <"+d.errorNotice+">"
		if d.headerFromObsolete {
			from, to = "MAILER-DAEMON (Mail Delivery System)", d.errorNotice+" (Postmaster)"
		}
		program := "SMTP"
		if d.lmtp {
			program = "LMTP"
		}
		p.Printf("From: %s", from)
		p.Printf("To: %s", to)
		p.Printf("Subject: %s %s client: errors from %s", d.mailName, program, s.server.relay())
		p.Printf("")
		p.Printf("Unexpected response from %s.", s.server.relay())
		p.Printf("")
		p.Printf("Transcript of session follows.")
		p.Printf("")
		for _, line := range history {
			for _, piece := range wrap(" "+line, 78) {
				p.Printf("%s", piece)
			}
		}
		p.Printf("")
		p.Printf("For other details, see the local mail logfile")
		if _, err := p.Close(); err != nil {
			d.log.Warn("postmaster notify: %v", err)
		}
	}()
}

func isDoubleBounce(sender, name string) bool {
	local, _, _ := strings.Cut(sender, "@")
	return strings.EqualFold(local, name) || strings.EqualFold(sender, name)
}

// wrap cuts a line at blanks; continuation lines are indented by four.
func wrap(line string, width int) []string {
	var out []string
	for len(line) > width {
		at := strings.LastIndexByte(line[:width], ' ')
		if at <= 4 {
			at = width
		}
		out = append(out, line[:at])
		line = "    " + strings.TrimLeft(line[at:], " ")
	}
	return append(out, line)
}
