// Package postalias is the command postalias, which makes and searches alias
// databases (config.md 3.9). Errors end it as they end maptool.
package postalias

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"posthaste/pkg/command"
	"posthaste/pkg/command/maptool"
	"posthaste/pkg/message/address"
	"posthaste/pkg/table"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	return maptool.Run(args, env, maptool.Style{
		Usage:     "[-Nfinoprsuvw] [-c config_dir] [-d key] [-q key] [map_type:]file...",
		Options:   "Nc:d:finopq:rsuvw",
		Separator: ":\t",
		Fill:      fill,
	})
}

// Rebuild is newaliases: it makes the databases named in items (elements of
// alias_database, or the argument of sendmail -oA). verbose is the number of -v options.
func Rebuild(env command.Env, items []string, verbose int) int {
	args := []string{"postalias"}
	for range verbose {
		args = append(args, "-v")
	}
	return Run(append(append(args, "--"), items...), env)
}

// fill reads lines "name: value, ..." and adds what NIS and sendmail expect.
func fill(t *maptool.Tool, src maptool.Source, w *table.Writer) error {
	lines := t.Reader(src)
	name := src.Name
	if src.Incremental {
		name = "stdin"
	}
	for {
		text, n, ok := lines.Next()
		if !ok {
			break
		}
		if t.InUTF8() && !utf8.ValidString(text) {
			t.Log.Warn("%s, line %d: non-UTF-8 input \"%s\" -- ignoring this line", name, n, text)
			continue
		}
		key, value, problem := parse(text)
		if problem != "" {
			t.Log.Warn("%s, line %d: %s", name, n, problem)
			continue
		}
		if err := w.Put(key, value); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for _, e := range [...]struct {
		key, value string
		flags      table.Flags
	}{
		{"@", "@", t.Flags & (table.Try0Null | table.Try1Null)},
		{"YP_LAST_MODIFIED", fmt.Sprintf("%010d", time.Now().Unix()), table.Try0Null},
		{"YP_MASTER_NAME", t.Config.String("myhostname"), table.Try0Null},
	} {
		if err := w.PutRaw(e.key, e.value, e.flags|table.DupReplace); err != nil {
			return err
		}
	}
	return nil
}

// maxTokens bounds the tokens of one alias.
const maxTokens = 1 << 20

// parse takes a logical line apart; problem says why it is skipped.
func parse(text string) (key, value, problem string) {
	tokens := address.Scan(text, maxTokens)
	colon := -1
	for i, token := range tokens {
		if token.Kind != address.Operator {
			continue
		}
		if token.Is(':') {
			colon = i
			break
		}
		if token.Is(',') {
			break
		}
	}
	if colon <= 0 || colon == len(tokens)-1 {
		return "", "", "need name:value pair"
	}
	key = tokens[:colon].Internal()
	if strings.ContainsAny(key, "@%") {
		return "", "", "name must be local"
	}
	return key, tokens[colon+1:].String(), ""
}
