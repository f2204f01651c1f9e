package smtp

import (
	"net"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/wire/smtp"
)

func TestParseEHLO(t *testing.T) {
	o := parseEHLO([]string{"250-x", "250-size 1000", "250-AUTH=PLAIN LOGIN", "250-AUTH CRAM-MD5", "250-xforward name ADDR", "250-PIPELINING", "250 8bitmime"}, map[string]bool{"PIPELINING": true})
	if o.features != featSize|featAuth|featXforward|feat8BitMIME || o.size != 1000 || strings.Join(o.auth, " ") != "PLAIN LOGIN CRAM-MD5" || strings.Join(o.xforward, " ") != "NAME ADDR" {
		t.Errorf("%+v", o)
	}
	for _, bad := range []string{"SIZE -1", "SIZE 1x", "SIZE +1", "SIZE 99999999999999999999"} {
		if o := parseEHLO([]string{"250-x", "250 " + bad}, nil); o.size != 0 || o.badSize == "" {
			t.Errorf("%s: %+v", bad, o)
		}
	}
}

func FuzzEHLO(f *testing.F) {
	f.Add("250-x\n250-SIZE 10\n250 XFORWARD A B")
	f.Fuzz(func(t *testing.T, text string) {
		if o := parseEHLO(strings.Split(text, "\n"), nil); o.size < 0 {
			t.Error("negative size")
		}
	})
}

// FuzzReply feeds any bytes to the reply parser: it ends, and what it returns
// is bounded.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-x\r\n250 y\r\n"))
	f.Add([]byte("garbage\r\n5\r\n550\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := net.Pipe()
		go func() {
			b.SetDeadline(time.Now().Add(time.Second))
			b.Write(data)
			b.Close()
		}()
		defer a.Close()
		c := smtp.NewConn(a, time.Second)
		rep, err := c.ReadReply(100, nil)
		if err == nil && (len(rep.Text) > 300 || rep.DSN == "" || rep.Code < 0 || rep.Code > 999) {
			t.Errorf("%+v", rep)
		}
	})
}

func FuzzDestination(f *testing.F) {
	f.Add("[ipv6:::1]:25")
	f.Add("a.b:smtp")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDestination(text, "25", map[string]string{"smtp": "25"})
		if err == nil && (d.host == "" || d.port == 0) {
			t.Errorf("%q: %+v", text, d)
		}
	})
}
