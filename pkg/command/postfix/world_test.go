package postfix

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// TestMachine checks and reloads on a real installation.
func TestMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a private machine")
	}
	w := world.Test(t, world.Options{Memory: true})
	read := func(name string) string {
		text, err := os.ReadFile(w.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	stockMain, stockMaster := read("/etc/postfix/main.cf"), read("/etc/postfix/master.cf")
	put := func(main, master string) {
		t.Helper()
		for name, text := range map[string]string{"/etc/postfix/main.cf": main, "/etc/postfix/master.cf": master} {
			if err := os.WriteFile(w.Path(name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}

	if r := w.Run("", "postfix", "check"); r.Code != 0 {
		t.Fatalf("check: %+v", r)
	}
	if log := w.Syslog(); strings.Contains(log, "/etc/postfix/main.cf:") || strings.Contains(log, "/etc/postfix/master.cf:") {
		t.Errorf("findings in the stock configuration: %s", log)
	}
	if r := w.Run("", "postfix", "check", "-j"); r.Code != 0 || r.Out != "" {
		t.Errorf("check -j of the stock configuration: %+v", r)
	}

	put(stockMain+"bif = no\n", stockMaster+"s2 inet n - y - - smtpd\n  -o header_checks=\n")
	line := strings.Count(stockMain, "\n") + 1
	if r := w.Run("", "postfix", "check"); r.Code != 0 {
		t.Errorf("check: %+v", r)
	}
	if _, err := w.WaitLog(5*time.Second, "postfix/postfix-script[", "]: warning: /etc/postfix/main.cf:"+strconv.Itoa(line)+": unknown parameter bif; is biff meant?"); err != nil {
		t.Error(err)
	}
	r := w.Run("", "postfix", "check", "-j")
	var found []map[string]any
	for line := range strings.Lines(r.Out) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		found = append(found, object)
	}
	if r.Code != 0 || len(found) != 2 || found[0]["kind"] != "unknown-parameter" || found[0]["severity"] != "warning" || found[0]["line"] != float64(line) ||
		found[1]["service"] != "s2/inet" || found[1]["parameter"] != "header_checks" {
		t.Errorf("check -j: %+v", r)
	}

	put(stockMain, stockMaster)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	const kept = "not reloaded, the old configuration stays in force"
	for _, c := range []struct{ what, main, master, reason string }{
		{"a line without =", stockMain + "nonsense\n", stockMaster, "missing '=' after attribute name"},
		{"a value of the wrong type", stockMain + "smtpd_hard_error_limit = many\n", stockMaster, "/etc/postfix/main.cf:" + strconv.Itoa(line) + ": bad numerical configuration: smtpd_hard_error_limit = many"},
		{"a value that all programs read", stockMain + "message_size_limit = many\n", stockMaster, "bad numerical configuration: message_size_limit = many"},
		{"a short line of master.cf", stockMain, stockMaster + "short unix -\n", `missing "unprivileged" field`},
		{"an option of master.cf", stockMain, stockMaster + "s2 inet n - y - - smtpd -o smtpd_helo_required=x\n", "bad boolean configuration: smtpd_helo_required = x"},
	} {
		put(c.main, c.master)
		before := w.CountLog("reload -- version")
		r := w.Run("", "postfix", "reload")
		if r.Code == 0 || !strings.Contains(r.Err, c.reason) || !strings.Contains(r.Err, kept) {
			t.Errorf("%s: %+v", c.what, r)
		}
		if _, err := w.WaitLog(5*time.Second, "error: ", c.reason); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if w.CountLog("reload -- version") != before {
			t.Errorf("%s: reloaded", c.what)
		}
		// Master itself, told by other means, refuses too what would end it.
		if c.what != "a value of the wrong type" && c.what != "an option of master.cf" {
			if r := w.Sh("kill -HUP $(cat /var/spool/postfix/pid/master.pid)"); r.Code != 0 {
				t.Errorf("%s: %+v", c.what, r)
			}
			if _, err := w.WaitLog(5*time.Second, "postfix/master[", kept, c.reason); err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
		}
	}
	put(stockMain, stockMaster)
	if r := w.Run("", "postfix", "reload"); r.Code != 0 {
		t.Errorf("reload: %+v", r)
	}
	if _, err := w.WaitLog(5*time.Second, "reload -- version"); err != nil {
		t.Error(err)
	}
	if r := w.Run("", "postfix", "status"); r.Code != 0 {
		t.Errorf("status: %+v", r)
	}
}
