package review

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
)

// suffixes are what a table's file is called beyond the table's name. Types
// that have no file are not listed.
var suffixes = map[string]string{
	"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "texthash": "", "regexp": "", "pcre": "", "cidr": "",
	"mysql": "", "pgsql": "", "sqlite": "", "ldap": "", "memcache": "", "mongodb": "",
}

// unseen are parameters whose tables the programs make themselves, and those
// that only approve tables of other parameters.
var unseen = lazily(`_session_cache_database$|^address_verify_map$|^postscreen_cache_map$|_sasl_auth_cache_name$|^proxy_(read|write)_maps$`)

// onlyTables are parameters in which every "word:word" is a table; in others
// it can be a transport, an address or a number of things.
var onlyTables = lazily(tableParameters)

// lists are parameters whose words can be tables.
var lists = lazily(listParameters)

const (
	tableParameters = `_maps$|_checks$|^alias_database$|^tls_server_sni_maps$`
	listParameters  = `^mydestination$|^relay_domains$|^virtual_(alias|mailbox)_domains$|^mynetworks$|_exceptions$|_exceptions_networks$|` +
		`_clients$|_hosts$|_filter$|_destinations$|_users$|^debug_peer_list$|_access_list$|_restrictions$|_database$|_map$|_cache_name$`
)

// lazily compiles a regular expression when it is first used: all programs of
// the suite are one file, and each would compile it at its start.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// tableName is "type:name".
var tableName = lazily(`^!?((?:proxy:)*)([a-z][a-z0-9-]*):(.+)$`)

// check_xxx_access and the like are followed by a table.
var accessCheck = lazily(`^check_[a-z_]*_access$`)

// tables looks at the tables that settings name.
func (r *reviewer) tables() {
	for _, p := range r.places() {
		classes := conf.Fields(p.value("smtpd_restriction_classes"))
		for _, name := range p.names() {
			if unseen().MatchString(name) {
				continue
			}
			only := onlyTables().MatchString(name)
			if only || lists().MatchString(name) || slices.Contains(classes, name) {
				p.tablesIn(name, p.value(name), only, maxNesting)
			}
		}
	}
}

// maxNesting bounds tables within tables.
const maxNesting = 20

// tablesIn looks at the tables in a value; only says that all of its words are
// tables.
func (p place) tablesIn(name, value string, only bool, depth int) {
	if depth == 0 {
		return
	}
	before := ""
	for _, word := range conf.FieldsBraced(value) {
		if inner, err := conf.Unbrace(word); err == nil {
			p.tablesIn(name, inner, only, depth-1)
			continue
		}
		if strings.HasPrefix(word, "/") && onlyTables().MatchString(name) {
			p.add(KindTable, name, "%s: %s is no table; write TYPE:%s", name, word, word)
		}
		if m := tableName().FindStringSubmatch(word); m != nil {
			p.table(name, m[2], m[3], only || accessCheck().MatchString(before), depth)
		}
		before = word
	}
}

// table looks at one table; sure says that it must be one.
func (p place) table(name, typ, file string, sure bool, depth int) {
	if typ == "pipemap" || typ == "unionmap" {
		if inner, err := conf.Unbrace(file); err == nil {
			p.tablesIn(name, inner, true, depth-1)
		}
		return
	}
	if !slices.Contains(table.Types(), typ) {
		if sure {
			p.add(KindTable, name, "%s: table %s:%s is of an unknown type", name, typ, file)
		}
		return
	}
	suffix, ok := suffixes[typ]
	if !ok || strings.HasPrefix(file, "{") || !filepath.IsAbs(file) {
		return
	}
	index, err := os.Stat(file + suffix)
	if err != nil {
		hint := ""
		if suffix != "" {
			hint = "; " + p.making(name, typ, file)
		}
		p.add(KindTable, name, "%s: table %s:%s cannot be read: %s: %s%s", name, typ, file, file+suffix, conf.Reason(err), hint)
		return
	}
	if suffix == "" {
		return
	}
	if source, err := os.Stat(file); err == nil && source.ModTime().After(index.ModTime()) {
		p.add(KindTable, name, "%s: table %s:%s is older than its source file; %s", name, typ, file, p.making(name, typ, file))
	}
}

// making says how a table is made.
func (p place) making(name, typ, file string) string {
	if name == "alias_maps" || name == "alias_database" {
		return "run newaliases"
	}
	return "run postmap " + typ + ":" + file
}
