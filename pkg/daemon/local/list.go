package local

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
)

// elements delivers to every address in a list of them (delivery.md §3.3). done
// is false if any must be tried again.
func (t *task) elements(ctx context.Context, s state, list string) (n int, done bool) {
	done = true
	address.Parse(list, 0).Addresses(func(words address.List) {
		n++
		if !t.element(ctx, s, words) {
			done = false
		}
	})
	return n, done
}

// lines delivers to the addresses in a .forward or :include: file; after a line
// with a failure no more is read, as the whole file is tried again.
func (t *task) lines(ctx context.Context, s state, r io.Reader) (n int, done bool) {
	in := bufio.NewReaderSize(r, max(t.lineLimit, 16))
	for {
		line, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			err = nil // the rest is taken for a line of its own
		}
		if len(line) > 0 && line[0] != '#' {
			found, ok := t.elements(ctx, s, strings.TrimRight(string(line), "\r\n"))
			n += found
			if !ok {
				return n, false
			}
		}
		switch {
		case err == io.EOF:
			return n, true
		case err != nil:
			return n, t.failed(ctx, &s, "4.3.0", "error reading forwarding file: "+text(err))
		}
	}
}

// element delivers to one element of a list.
func (t *task) element(ctx context.Context, s state, words address.List) (done bool) {
	name := words.Internal()
	switch {
	case strings.HasPrefix(name, "/"):
		return t.file(ctx, s, name)
	case strings.HasPrefix(name, "~"):
		return t.homeFile(ctx, s, name)
	case strings.HasPrefix(name, "|"):
		if !t.toCommands[string(s.list)] {
			return t.failed(ctx, &s, "5.7.1", "mail to command is restricted")
		}
		return t.command(ctx, s, name[1:])
	case len(name) >= len(includePrefix) && strings.EqualFold(name[:len(includePrefix)], includePrefix):
		return t.include(ctx, s, name[len(includePrefix):])
	}
	return t.address(ctx, s, words.String())
}

// tooMany tells that lists name each other without end, and then reports s as
// deferred: somebody may mend a list. Once is enough for a recipient.
func (t *task) tooMany(ctx context.Context, s *state) bool {
	t.lists++
	if t.lists == maxLists+1 {
		t.job.Log.Warn("%s: more than %d lists for one recipient", t.job.ID, maxLists)
		t.failed(ctx, s, "4.3.0", "list expansion limit exceeded")
	}
	return t.lists > maxLists
}

const includePrefix = ":include:"

// homeFile delivers to "~/path".
func (t *task) homeFile(ctx context.Context, s state, name string) (done bool) {
	switch {
	case len(name) > 1 && name[1] != '/':
		t.job.Log.Warn("bad home directory syntax for: %s", name)
	case s.rights == nil || s.rights.Home == "":
		t.job.Log.Warn("unknown home directory for: %s", name)
	default:
		return t.file(ctx, s, s.rights.Home+name[1:])
	}
	return t.misconfigured(ctx, &s, "5.3.5")
}

// address delivers to an address in external form: here, or by a message of its
// own.
func (t *task) address(ctx context.Context, s state, external string) (done bool) {
	full, err := t.rewrite.Rewrite(ctx, rewrite.Local, external)
	if err != nil {
		return t.unresolved(ctx, &s, external, err)
	}
	addr := address.Unquote(full)
	if s.unmatched != "" {
		addr = address.AddExtension(addr, s.unmatched)
	}
	return t.resolve(ctx, s, addr)
}

func (t *task) resolve(ctx context.Context, s state, addr string) (done bool) {
	reply, err := t.rewrite.Resolve(ctx, s.message.Sender, addr)
	switch {
	case err != nil:
		return t.unresolved(ctx, &s, addr, err)
	case reply.Flags&rewrite.Fail != 0:
		return t.failed(ctx, &s, "4.3.0", "address resolver failure")
	case reply.Flags&rewrite.Error != 0:
		return t.failed(ctx, &s, "5.1.3", "bad recipient address syntax: "+reply.Recipient)
	}
	s.rcpt.Address = reply.Recipient
	s.depth++
	if reply.Transport == t.service {
		return t.recipient(ctx, s)
	}
	return t.forwardTo(ctx, s)
}

// unresolved is for an address that could not be asked about: it cannot be
// right, or we are being stopped.
func (t *task) unresolved(ctx context.Context, s *state, addr string, err error) (done bool) {
	if errors.Is(err, rewrite.ErrAddress) {
		return t.failed(ctx, s, "5.1.3", "bad recipient address syntax: "+addr)
	}
	return false
}
