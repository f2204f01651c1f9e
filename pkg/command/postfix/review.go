package postfix

import (
	"encoding/json"
	"slices"
	"time"

	"posthaste/pkg/command/postfix/review"
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
	findings, err := review.Review(t.config, time.Now())
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
