package local

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// maxDepth bounds the nesting of aliases, .forward and :include: files.
const maxDepth = 100

// maxLists bounds the aliases and files that one recipient is expanded to. Lists
// that name each other could make more than anybody can wait for.
const maxLists = 5000

// task is the delivery of one recipient of a request, with all it expands to.
type task struct {
	*daemon
	job      *agent.Job
	loops    mailbox.Loops
	seen     map[string]bool
	forwards []*forward

	forwardFiles map[string]bool // .forward files met; true when all in it was seen to
	lists        int
	corrupt      bool // the queue file is

	found cred.Identity // the account looked up last
}

// kind is the sort of list that an address came from.
type kind string

const (
	direct  kind = ""
	alias   kind = "alias"
	dotFwd  kind = "forward"
	include kind = "include"
)

// state is one node of the tree. It is copied on the way down.
type state struct {
	rcpt      deliver.Recipient // as it is reported
	message   bounce.Message    // its sender may be an alias owner
	delivered string            // Delivered-To: value; "" is not yet known
	depth     int

	local, user, domain string // of rcpt, folded
	extension           string // with its delimiter; "" is none
	unmatched           string // what of it is passed on to addresses in a list

	owner     string         // who sends mail from here on; a user who is another gets a message of its own
	list      kind           // what we are in
	expanding string         // its name, which stands for the user in it
	rights    *cred.Identity // whose they are; nil is root's, who delegates to default_privs
}

func (t *task) run(ctx context.Context, rcpt *deliver.Recipient) (done bool) {
	s := state{rcpt: *rcpt, message: t.job.Envelope()}
	t.seen, t.forwardFiles = make(map[string]bool), make(map[string]bool)
	done = t.recipient(ctx, s)
	return t.finishForwards(ctx, s, done && !t.corrupt)
}

// first tells whether something is met for the first time. Only so much is
// remembered: beyond it a mailbox may get a message twice.
func (t *task) first(key ...string) bool {
	k := strings.Join(key, "\x00")
	if t.seen[k] {
		return false
	}
	if t.dupLimit <= 0 || len(t.seen) < t.dupLimit {
		t.seen[k] = true
	}
	return true
}

func (t *task) fold(s string) string { return table.Fold(s, t.utf8) }

// recipient is the procedure for one address (delivery.md §3.1).
func (t *task) recipient(ctx context.Context, s state) (done bool) {
	if ctx.Err() != nil {
		return false
	}
	if !t.first("recipient", strconv.Itoa(s.depth), t.fold(s.rcpt.Address)) {
		return true
	}
	if s.depth > maxDepth+1 {
		t.job.Log.Warn("recipient nesting limit exceeded for %s", s.rcpt.Address)
		return t.ownerBounced(ctx, &s, dsn.Status{Code: "5.4.6", Reason: "recipient nesting limit exceeded"})
	}
	if t.loops.Has(s.rcpt.Address) {
		t.parse(&s)
		return t.ownerBounced(ctx, &s, dsn.Status{Code: "5.4.6", Reason: "mail forwarding loop for " + s.rcpt.Address})
	}
	if s.delivered == "" {
		s.delivered = s.rcpt.Address
	}
	t.parse(&s)
	if s.user == "" {
		return t.failed(ctx, &s, "5.1.3", "null username in \""+s.rcpt.Address+"\"")
	}
	if mailboxOnly, ok := strings.CutPrefix(s.user, `\`); ok {
		s.user, s.local = mailboxOnly, strings.TrimPrefix(s.local, `\`)
		s.rcpt.Address = strings.TrimPrefix(s.rcpt.Address, `\`)
		return t.mailboxOrUnknown(ctx, s)
	}
	return t.choose(ctx, s)
}

// thaw makes the address in s what Delivered-To: says, unless the first one stays.
func (t *task) thaw(s *state) {
	if !t.frozenDelivered {
		s.delivered = s.rcpt.Address
	}
}

// parse takes the address of s apart.
func (t *task) parse(s *state) {
	folded := t.fold(s.rcpt.Address)
	local, domain, found := folded, "", false
	if at := strings.LastIndexByte(folded, '@'); at >= 0 {
		local, domain, found = folded[:at], folded[at+1:], true
	}
	if !found {
		t.job.Log.Warn("no @ in recipient address: %s", s.rcpt.Address)
	}
	s.local, s.domain, s.user, s.extension = local, domain, local, ""
	if user, ext, ok := t.ext.Split(local); ok {
		s.user, s.extension = user, ext
	}
	if strings.Contains(s.extension, "/") {
		t.job.Log.Warn("%s: address with illegal extension: %s", t.job.ID, s.local)
		s.extension = ""
	}
	s.unmatched = s.extension
}

// choose finds out what an address is: alias, somebody else's message, user.
func (t *task) choose(ctx context.Context, s state) (done bool) {
	full := s
	full.unmatched = ""
	if handled, done := t.alias(ctx, full, s.local); handled {
		return done
	}
	if s.extension != "" {
		base := s
		if !t.propagate[string(alias)] {
			base.unmatched = ""
		}
		if handled, done := t.alias(ctx, base, s.user); handled {
			return done
		}
	}
	if s.owner != "" && !strings.EqualFold(s.owner, s.user) || s.list == include {
		return t.forwardTo(ctx, s)
	}
	id, known, err := t.account(s.user)
	if err != nil {
		return t.lookupFailed(ctx, &s, err)
	}
	if known {
		if t.requireHome {
			if err := cred.As(id, func() error { return isDirectory(id.Home) }); err != nil {
				return t.failed(ctx, &s, "4.3.0", "cannot access home directory "+id.Home+": "+text(err))
			}
		}
		if handled, done := t.dotForward(ctx, s, id); handled {
			return done
		}
	}
	return t.mailboxOrUnknown(ctx, s)
}

func (t *task) mailboxOrUnknown(ctx context.Context, s state) (done bool) {
	if handled, done := t.mailbox(ctx, s); handled {
		return done
	}
	return t.unknown(ctx, s)
}

// account looks a local user up.
func (t *task) account(name string) (id cred.Identity, known bool, err error) {
	if name == "" || strings.ContainsAny(name, "\x00\n:/") {
		return id, false, nil
	}
	if name == t.found.Name {
		return t.found, true, nil
	}
	id, err = t.lookup(name)
	if errors.Is(err, cred.ErrUnknownUser) {
		return id, false, nil
	}
	if err == nil {
		t.found = id
	}
	return id, err == nil, err
}

func (t *task) lookupFailed(ctx context.Context, s *state, err error) bool {
	t.job.Log.Warn("error looking up passwd info for %s: %v", s.user, maillog.Errno(err))
	return t.failed(ctx, s, "4.0.0", "user lookup error")
}

// text is an error's without Go's decoration: "Permission denied".
func text(err error) string { return maillog.Errno(err).Error() }
