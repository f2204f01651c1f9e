package postscreen

import (
	"context"
	"strings"
	"time"

	"posthaste/pkg/table"
)

// verdict is what the access list says.
type verdict byte

const (
	noVerdict verdict = iota
	permit
	reject
)

// tables are the lookup tables but the cache.
type tables struct {
	env           table.Env
	access        accessList
	ehlo, footers *table.Maps
	command       table.Table      // postscreen_command_filter; nil is none
	listReply     table.Table      // postscreen_dnsbl_reply_map; nil is none
	networks      *table.MatchList // mynetworks
	interfaces    *table.MatchList
	forbidden     *table.MatchList
	forbiddenWord map[string]bool
	all           []table.Table
	looked        time.Time
}

// accessItem is a word of an access list.
type accessItem struct {
	word  string // as written
	table table.Table
}

// permitMyNetworks is the word for clients in mynetworks.
const permitMyNetworks = "permit_mynetworks"

type accessList []accessItem

// openTables opens what main.cf names.
func openTables(env table.Env, set *settings) (*tables, error) {
	t := &tables{env: env}
	c := env.Config
	for _, word := range c.List("postscreen_access_list") {
		item := accessItem{word: word}
		if strings.Contains(word, ":") {
			var err error
			if item.table, err = t.open(word, table.FoldFix|table.UTF8Request); err != nil {
				return nil, err
			}
		}
		t.access = append(t.access, item)
	}
	for _, m := range []struct {
		to    **table.Maps
		param string
	}{{&t.ehlo, "postscreen_discard_ehlo_keyword_address_maps"}, {&t.footers, "postscreen_reject_footer_maps"}} {
		opened, err := table.OpenMaps(env, m.param, c.String(m.param), 0)
		if err != nil {
			return nil, err
		}
		*m.to = opened
		t.all = append(t.all, opened.Tables()...)
	}
	for _, m := range []struct {
		to    *table.Table
		param string
	}{{&t.command, "postscreen_command_filter"}, {&t.listReply, "postscreen_dnsbl_reply_map"}} {
		if spec := c.String(m.param); spec != "" {
			opened, err := t.open(spec, table.FoldFix)
			if err != nil {
				return nil, err
			}
			*m.to = opened
		}
	}
	return t, t.openLists()
}

func (t *tables) open(spec string, flags table.Flags) (table.Table, error) {
	opened, err := table.Open(t.env, spec, flags)
	if err == nil {
		t.all = append(t.all, opened)
	}
	return opened, err
}

func (t *tables) openLists() (err error) {
	c := t.env.Config
	const interfaces, forbidden = "postscreen_allowlist_interfaces", "postscreen_forbidden_commands"
	if t.networks, err = table.NewMatchList(t.env, "mynetworks", c.String("mynetworks"), table.MatchAddr, 0); err != nil {
		return err
	}
	if t.interfaces, err = table.NewMatchList(t.env, interfaces, c.String(interfaces), table.MatchAddr, 0); err != nil {
		return err
	}
	t.forbiddenWord = map[string]bool{}
	for _, word := range c.List(forbidden) {
		if !strings.Contains(word, ":") {
			t.forbiddenWord[strings.ToUpper(word)] = true
		}
	}
	t.forbidden, err = table.NewMatchList(t.env, forbidden, c.String(forbidden), table.MatchString, 0)
	return err
}

// changed names a table whose file has changed since it was opened.
func (t *tables) changed() (string, bool) {
	for _, one := range t.all {
		if table.Changed(one) {
			return table.RegistryName(one), true
		}
	}
	for _, list := range []*table.MatchList{t.networks, t.interfaces, t.forbidden} {
		if name, changed := list.Changed(); changed {
			return name, true
		}
	}
	return "", false
}

// forbids reports whether a command is in postscreen_forbidden_commands.
func (t *tables) forbids(ctx context.Context, command string) bool {
	if t.forbiddenWord[strings.ToUpper(command)] {
		return true
	}
	yes, _ := t.forbidden.Match(ctx, command)
	return yes
}

// accessTitle is the source of the words of the list itself, in warnings.
const accessTitle = "postscreen_access_list"

// look says what the access list has for an address. Its first word that says
// anything decides.
func (t *tables) look(ctx context.Context, addr string) verdict {
	for _, item := range t.access {
		var v verdict
		var done bool
		if item.table == nil {
			v, done = t.word(ctx, accessTitle, item.word, addr)
		} else if value, found, err := item.table.Lookup(ctx, addr); err != nil {
			t.failed(accessTitle, item.word)
			done = true
		} else if found {
			v, done = t.words(ctx, item.word, value, addr)
		}
		if done {
			return v
		}
	}
	return noVerdict
}

// words says what the result of a table means: words as in the list, but no
// tables.
func (t *tables) words(ctx context.Context, source, value, addr string) (verdict, bool) {
	for _, word := range table.SplitList(value) {
		if strings.Contains(word, ":") {
			t.env.Log.Warn("table %s: lookup result \"%s\" is not allowed -- ignoring remainder of access list", source, word)
			return noVerdict, true
		}
		if v, done := t.word(ctx, source, word, addr); done {
			return v, true
		}
	}
	return noVerdict, false
}

// word is a single word; done is false if the next one is to be looked at.
func (t *tables) word(ctx context.Context, source, word, addr string) (v verdict, done bool) {
	switch strings.ToLower(word) {
	case permitMyNetworks:
		yes, err := t.networks.Match(ctx, addr)
		if err != nil {
			t.failed(source, word)
			return noVerdict, true
		}
		return map[bool]verdict{true: permit}[yes], yes
	case "permit":
		return permit, true
	case "reject":
		return reject, true
	case "dunno":
		return noVerdict, true
	}
	t.env.Log.Warn("%s: unknown command: %s -- ignoring the remainder of this access list", source, word)
	return noVerdict, true
}

func (t *tables) failed(source, word string) {
	t.env.Log.Warn("%s: %s: table lookup error -- ignoring the remainder of this access list", source, word)
}
