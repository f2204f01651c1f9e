package postfix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/postfix/review"
	"posthaste/pkg/conf/mastercf"
	"posthaste/pkg/sys/maillog"
)

// check is the command of that name. Beyond what the original looks at it
// reviews the configuration; with -j the findings of that are printed as JSON,
// an object a line, and not logged. Findings do not change the exit status.
func (t *tool) check(args []string) int {
	asJSON := slices.Equal(args, []string{"-j"})
	if len(args) > 0 && !asJSON {
		t.script.Fatal("usage: postfix check [-j]")
	}
	if code := t.checkFatal(); code != 0 {
		return code
	}
	code := t.checkWarn()
	findings, err := review.Review(t.config, time.Now(), t.unused())
	if err != nil {
		t.script.Warn("the configuration could not be reviewed: %v", err)
	}
	for _, f := range findings {
		if !asJSON {
			t.script.Warn("%s", f)
			continue
		}
		text, err := json.Marshal(struct {
			Severity string `json:"severity"`
			review.Finding
		}{"warning", f})
		if err != nil {
			t.script.Warn("%s: %v", f, err)
			continue
		}
		t.say(string(text))
	}
	return code
}

// unused asks postconf for the settings that nothing reads. What is wrong with
// it the review finds itself.
func (t *tool) unused() []review.Unused {
	var out bytes.Buffer
	cmd := exec.Command(t.dirs.command+"/postconf", "-c", t.dirs.config, "mail_name")
	cmd.Env, cmd.Stderr = t.environ, &out
	if err := cmd.Run(); err != nil {
		return nil
	}
	return review.ParseUnused(out.String())
}

// unusable says why the running mail system should not take the configuration:
// what would end master, or a program of master.cf at its start. (A main.cf
// that nothing can start with has been found before.)
func (t *tool) unusable() []string {
	path := filepath.Join(t.dirs.config, "master.cf")
	entries, err := mastercf.Parse(path, t.config)
	if err != nil {
		return []string{err.Error()}
	}
	if t.config.String("maillog_file") != "" && !hasPostlog(entries, t.config.String("postlog_service_name")) {
		return []string{"missing 'postlog' service in master.cf - run 'postfix upgrade-configuration'"}
	}
	findings, err := review.Unusable(t.config)
	if err != nil {
		return []string{err.Error()}
	}
	var reasons []string
	for _, f := range findings {
		reasons = append(reasons, f.String())
	}
	return reasons
}

// refuse logs why there is no reload, also shows it where the log is not shown,
// and ends the command.
func (t *tool) refuse(log *maillog.Logger, reasons []string) {
	for _, text := range append(reasons, "not reloaded, the old configuration stays in force") {
		log.Log(maillog.LevelError, "%s", text)
		if !command.IsTerminal(t.env.Stderr) && !t.rootless {
			fmt.Fprintf(t.env.Stderr, "postfix: error: %s\n", text)
		}
	}
	command.Exit(1)
}
