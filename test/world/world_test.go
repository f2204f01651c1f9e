package world

import (
	"bufio"
	"strings"
	"testing"
	"time"
)

// The world must be able to run the original before it may judge ours.
func TestDebianDeliversMail(t *testing.T) {
	w := Test(t, Options{Suite: Debian, Main: []string{"home_mailbox = Maildir/"}})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	banner, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || banner != "220 mail.example.com ESMTP Postfix (Debian/GNU)\r\n" {
		t.Fatalf("%q %v", banner, err)
	}
	if r := Do(w.As("bob", "sendmail", "root"), "Subject: hello\n\nworld\n"); r.Code != 0 {
		t.Fatal(r)
	}
	line, err := w.WaitLog(20*time.Second, "to=<alice@mail.example.com>", "status=sent")
	if err != nil || !strings.Contains(line, "orig_to=<root>") {
		t.Fatal(line, err)
	}
	if r := w.Sh("cat /home/alice/Maildir/new/*"); !strings.Contains(r.Out, "\n\nworld\n") {
		t.Fatal(r)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
}
