package tools_test

import (
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// Mail goes in by UUCP, SMTP and QMQP, through our suite, and out to our sink.
func TestThroughTheSuite(t *testing.T) {
	t.Parallel()
	w := world.Test(t, world.Options{Suite: world.Ours, Memory: true, Main: []string{
		"relayhost = [127.0.0.1]:2525", "qmqpd_authorized_clients = 127.0.0.1", "recipient_delimiter ="}})
	if r := w.Sh(`sed -i 's/^smtp  *inet .*/&\n628 inet n - n - - qmqpd/' /etc/postfix/master.cf; mkdir -m 777 /tmp/dump
smtp-sink -u postfix -c -D /tmp/dump/all 127.0.0.1:2525 100 >/tmp/sink 2>&1 &`); r.Code != 0 {
		t.Fatal(r.Err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ command, stdin string }{
		{"smtp-source -m 10 -s 3 -t x@far.example -l 5000 127.0.0.1:25", ""},
		{"qmqp-source -m 5 -s 2 -t x@far.example 127.0.0.1:628", ""},
		{"rmail y@far.example", "From joe Sun Nov 22 12:00:00 2026 remote from hosta\nSubject: by uucp\n\nbody\n"},
	} {
		if r := w.Run(x.stdin, strings.Fields(x.command)...); r.Code != 0 {
			t.Errorf("%s: %d %s", x.command, r.Code, r.Err)
		}
	}
	w.Run("", "postqueue", "-f") // rmail only queues
	for end := time.Now().Add(20 * time.Second); w.CountLog("status=sent") < 16 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	r := w.Sh(`tr '\r' '\n' </tmp/sink | sed -n 's/.*mesg=/mesg=/p' | tail -1; grep -c '^X-Rcpt-Args: <[xy]@far.example>' /tmp/dump/all; grep '^X-Mail-Args' /tmp/dump/all | grep hosta; grep -c '^Subject: by uucp' /tmp/dump/all`)
	if want := "mesg=16\n16\nX-Mail-Args: <joe@hosta"; !strings.HasPrefix(r.Out, want) || !strings.HasSuffix(r.Out, "\n1\n") {
		t.Errorf("%s", r.Out)
	}
}
