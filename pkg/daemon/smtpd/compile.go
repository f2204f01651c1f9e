package smtpd

import (
	"fmt"
	"strings"

	"posthaste/pkg/table"
)

// element is one compiled element of a restriction list.
type element struct {
	name  string // as written
	arg   string // its argument, as written
	table table.Table
	warn  bool // follows warn_if_reject
	// silent: what permits is logged by what the element consists of.
	silent bool
	run    func(evaluation) verdict
}

// argument says what follows a restriction's name.
type argument byte

const (
	argNone   argument = iota
	argTable           // type:name, or { type:name, ... }
	argDomain          // a DNS list
	argNumber
	argServer    // a policy service
	argCertTable // as argTable, with options
)

// restriction is an entry of the registry: one word of the policy language.
type restriction struct {
	arg argument
	run func(evaluation) verdict
}

// configError is a mistake in main.cf; its text is what is logged as fatal.
func configError(format string, a ...any) error { return fmt.Errorf(format, a...) }

// compiler turns restriction lists into elements. Trouble with one element
// does not stop the server: it becomes an element that logs the trouble and
// answers 451 when it is reached (spec §4.3).
type compiler struct {
	srv      *Server
	registry map[string]restriction
	classes  map[string][]element // smtpd_restriction_classes
	tables   map[string]table.Table
	env      table.Env
	runtime  bool  // text from an access table: may not name tables
	err      error // the first mistake that the server must not start with
}

// compile compiles a list. list is nil for the body of a class, where a bare
// table is taken by the list that uses it.
func (c *compiler) compile(text string) []element {
	var out []element
	words := table.SplitList(text)
	warn := false
	for i := 0; i < len(words); i++ {
		if strings.EqualFold(words[i], "warn_if_reject") {
			warn = true
			continue
		}
		el, used := c.element(words, i)
		el.warn, warn = warn, false
		out = append(out, el)
		i += used
	}
	return out
}

// element compiles the element at words[i]; used is how many arguments it
// took.
func (c *compiler) element(words []string, i int) (el element, used int) {
	name := words[i]
	el.name = name
	if isTableSpec(name) {
		if c.runtime {
			return c.nestedTable(name), 0
		}
		return c.bareTable(name), 0
	}
	key := strings.ToLower(name)
	if _, ok := c.classes[key]; ok {
		classes := c.classes
		el.silent = true
		el.run = func(e evaluation) verdict { return e.nested(classes[key]) }
		return el, 0
	}
	r, known := c.registry[key]
	if !known {
		el.run = func(e evaluation) verdict {
			e.log.Warn("unknown smtpd restriction: \"%s\"", name)
			return e.serverError()
		}
		return el, 0
	}
	if r.arg != argNone {
		if i+1 >= len(words) {
			el.run = missingArgument(name, r.arg)
			return el, 0
		}
		el.arg, used = words[i+1], 1
	}
	switch {
	case r.arg == argServer:
		p, err := c.policyService(el.arg)
		if err != nil {
			el.run = func(e evaluation) verdict {
				e.log.Warn("%v", err)
				return e.serverError()
			}
			break
		}
		el.table, el.run, el.silent = p, r.run, true
	case r.arg == argTable:
		if !isTableSpec(el.arg) {
			el.run = badTableArgument(name, el.arg)
			break
		}
		t, problem := c.open(el.arg)
		if problem != nil {
			el.run = problem
			break
		}
		el.table, el.run, el.silent = t, r.run, true
	case r.arg == argCertTable:
		el.run = c.certTable(&el, r.run)
	default:
		el.run = r.run
	}
	return el, used
}

func missingArgument(name string, arg argument) func(evaluation) verdict {
	return func(e evaluation) verdict {
		switch arg {
		case argTable, argCertTable:
			e.log.Warn("restriction %s: bad argument \"%s\": need maptype:mapname", name, name)
		case argNumber:
			e.log.Warn("restriction %s must be followed by number", name)
		case argServer:
			e.log.Warn("restriction %s must be followed by transport:server", name)
		default:
			e.log.Warn("restriction %s requires domain name argument", name)
			return dunno
		}
		return e.serverError()
	}
}

func badTableArgument(name, arg string) func(evaluation) verdict {
	return func(e evaluation) verdict {
		e.log.Warn("restriction %s: bad argument \"%s\": need maptype:mapname", name, arg)
		return e.serverError()
	}
}

// isTableSpec reports whether a word is type:name or {...}.
func isTableSpec(word string) bool {
	return strings.Contains(word, ":") || strings.HasPrefix(word, "{")
}

// bareTable is a table without a keyword: the list decides what is looked up.
func (c *compiler) bareTable(spec string) element {
	el := element{name: spec, arg: spec}
	t, problem := c.open(spec)
	if problem != nil {
		el.run = problem
		return el
	}
	el.table, el.silent = t, true
	registry := c.registry
	el.run = func(e evaluation) verdict {
		r, ok := registry[e.list.access]
		if !ok {
			e.log.Warn("specify one of (check_client_access, check_reverse_client_hostname_access, check_helo_access, check_sender_access, check_recipient_access, check_etrn_access) before %s restriction \"%s\"", e.list.class, spec)
			return e.serverError()
		}
		return r.run(e)
	}
	return el
}

// nestedTable is a table named in an access table, which is refused.
func (c *compiler) nestedTable(spec string) element {
	return element{name: spec, run: func(e evaluation) verdict {
		e.log.Warn("do not specify lookup tables inside SMTPD access maps")
		e.log.Warn("define a restriction class and specify its name instead.")
		return e.serverError()
	}}
}

// open opens a table once a process. "{type:name, attribute...}" is a table
// with options.
func (c *compiler) open(spec string) (table.Table, func(evaluation) verdict) {
	name := spec
	if strings.HasPrefix(spec, "{") {
		name = strings.TrimSpace(strings.TrimSuffix(spec[1:], "}"))
		if words := table.SplitList(name); len(words) > 0 {
			name = words[0]
		}
	}
	if t, ok := c.tables[name]; ok {
		return t, nil
	}
	t, err := table.Open(c.env, name, table.FoldFix|table.UTF8Request)
	if err != nil {
		return nil, func(e evaluation) verdict {
			e.log.Warn("%v", err)
			return e.serverError()
		}
	}
	c.tables[name] = t
	return t, nil
}

// Limits of lists inside lists: in an access table, and of any kind.
const (
	maxTableDepth = 100
	maxDepth      = 200
)

func (e evaluation) tooDeep() verdict {
	e.log.Warn("access table %s entry %s causes unreasonable recursion", e.element.arg, e.element.name)
	return e.serverError()
}

// nested runs a list inside a list.
func (e evaluation) nested(elements []element) verdict {
	if e.checks.depth >= maxDepth {
		return e.tooDeep()
	}
	e.checks.depth++
	v := e.evaluate(elements)
	e.checks.depth--
	return v
}

// loadPolicy compiles all lists and makes the start-up checks (spec §4.1).
func (srv *Server) loadPolicy(env table.Env) error {
	c := &compiler{srv: srv, registry: registry(), classes: map[string][]element{}, tables: map[string]table.Table{}, env: env}
	conf := srv.conf
	c.classes["reject_sender_login_mismatch"] = nil
	names := conf.List("smtpd_restriction_classes")
	bodies := map[string]string{"reject_sender_login_mismatch": "reject_authenticated_sender_login_mismatch reject_unauthenticated_sender_login_mismatch"}
	for _, name := range names {
		text, ok := conf.Explicit(name)
		if !ok || strings.TrimSpace(text) == "" {
			return configError("restriction class `%s' needs a definition", name)
		}
		body, err := conf.Expand(text)
		if err != nil {
			return err
		}
		bodies[strings.ToLower(name)] = body
		c.classes[strings.ToLower(name)] = nil
	}
	for name, body := range bodies {
		c.classes[name] = c.compile(body)
	}
	srv.policy = map[*listKind][]element{}
	for _, list := range []*listKind{clientList, heloList, senderList, relayList, rcptList, dataList, eodList, etrnList} {
		srv.policy[list] = c.compile(conf.String(list.param))
	}
	srv.trialRelay = c.compile("permit_mynetworks, permit_sasl_authenticated, permit_auth_destination")
	if c.err != nil {
		return c.err
	}
	run := *c
	run.runtime = true
	srv.runtime = &run
	srv.tables = c.tables
	if srv.standAlone || srv.set.relayUnset {
		return nil
	}
	found := srv.relayGuard(conf.String(relayList.param), bodies, 0) || srv.relayGuard(conf.String(rcptList.param), bodies, 0)
	if !found {
		return configError("in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working instance of: reject_unauth_destination, defer_unauth_destination, reject, defer, defer_if_permit or check_relay_domains")
	}
	return nil
}

// guards are the restrictions that keep a server from being an open relay.
var guards = map[string]bool{"reject_unauth_destination": true, "defer_unauth_destination": true, "reject": true, "defer": true, "defer_if_permit": true, "check_relay_domains": true}

// relayGuard looks for one of guards in a list, classes included.
func (srv *Server) relayGuard(text string, bodies map[string]string, depth int) bool {
	words := table.SplitList(text)
	for i := 0; i < len(words); i++ {
		word := strings.ToLower(words[i])
		body, isClass := bodies[word]
		switch {
		case word == "warn_if_reject":
			i++
		case guards[word]:
			return true
		case isClass && depth < 10 && srv.relayGuard(body, bodies, depth+1):
			return true
		case word == "permit":
			if i+1 < len(words) {
				srv.log.Warn("restriction `%s' after `permit' is ignored", words[i+1])
			}
			return false
		}
	}
	return false
}
