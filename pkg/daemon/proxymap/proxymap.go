// Package proxymap is the daemon behind the services proxymap and proxywrite:
// it looks tables up for programs that cannot open them, because they are in a
// chroot jail or do not contain the client of a database (spec config.md §4.1,
// ipc.md §2.14).
//
// A client may use exactly the tables that the administrator wrote as
// "proxy:type:name" into a parameter listed in proxy_read_maps (or, for
// proxywrite, proxy_write_maps); all else is refused.
package proxymap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/proxymap"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// requestTimeout is how long a client may take for a request once it has sent
// the first byte, and to accept the reply.
const requestTimeout = time.Second

// maxTables bounds the table instances of one process; clients choose the flags
// that, with the name, make an instance.
const maxTables = 1000

// Main runs the daemon.
func Main(args []string) int {
	var s *server
	return service.Run(service.Service{
		Name:     "proxymap",
		Kind:     service.Multi,
		KeepRoot: true, // with "n" in the unprivileged column it may open what only root can
		Setup: func(rt *service.Runtime) (err error) {
			s, err = newServer(rt.Config, rt.Log, rt.ServiceName)
			return err
		},
		Serve: func(ctx context.Context, conn *service.Conn) error { return s.serve(ctx, conn) },
		// proxywrite must finish what it writes when master stops the others.
		OwnSession: serviceName(args) == "proxywrite",
	}, args, os.Environ())
}

// serviceName finds -n NAME as master writes it.
func serviceName(args []string) string {
	for i := 1; i+1 < len(args); i++ {
		if args[i] == "-n" {
			return args[i+1]
		}
	}
	return "proxymap"
}

// server is the state of the service.
type server struct {
	env       table.Env
	log       *maillog.Logger
	write     bool
	parameter string          // proxy_read_maps or proxy_write_maps
	approved  map[string]bool // "type:name"

	mu     sync.Mutex
	tables map[instance]table.Table
}

// instance tells one opened table from another.
type instance struct {
	spec  string
	flags table.Flags
}

func newServer(c *conf.Config, log *maillog.Logger, name string) (*server, error) {
	s := &server{env: table.Env{Config: c, Log: log}, log: log, tables: map[instance]table.Table{}}
	switch name {
	case "proxymap":
		s.parameter = "proxy_read_maps"
	case "proxywrite":
		s.parameter, s.write = "proxy_write_maps", true
	default:
		return nil, fmt.Errorf("service name must be one of proxymap or proxywrite")
	}
	var err error
	if s.approved, err = approved(c.String(s.parameter)); err != nil {
		log.Warn("bad %s parameter value: %v", s.parameter, err)
	}
	return s, nil
}

// approved are the tables that a list of tables asks for by proxy:.
func approved(list string) (map[string]bool, error) {
	found := map[string]bool{}
	var walk func(text string) error
	walk = func(text string) error {
		for _, token := range table.SplitList(text) {
			if inner, ok := strings.CutPrefix(token, "{"); ok {
				inner, closed := strings.CutSuffix(inner, "}")
				if !closed {
					return fmt.Errorf("missing '}' in \"%s\"", token)
				}
				parts := table.SplitList(inner)
				if len(parts) == 0 {
					continue
				}
				token = parts[0]
			}
			spec, proxied := token, false
			for strings.HasPrefix(spec, "proxy:") {
				spec, proxied = strings.TrimPrefix(spec, "proxy:"), true
			}
			if proxied && strings.Contains(spec, ":") {
				found[spec] = true
			}
			for _, compound := range []string{"unionmap:{", "pipemap:{"} {
				if inner, ok := strings.CutPrefix(token, compound); ok {
					inner, closed := strings.CutSuffix(inner, "}")
					if !closed {
						return fmt.Errorf("missing '}' in \"%s\"", token)
					}
					if err := walk(inner); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	return found, walk(list)
}

// serve handles one client, which asks any number of times.
func (s *server) serve(ctx context.Context, conn *service.Conn) error {
	return s.requests(ctx, conn, conn.Taken, conn.Available)
}

// stream is the client's connection.
type stream interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

func (s *server) requests(ctx context.Context, conn stream, taken, available func()) error {
	in, out := attr.NewReader(conn, attr.Null, "proxymap socket"), attr.NewWriter(conn, attr.Null)
	if err := attr.Announce(out, protocol.Protocol); err != nil {
		return err
	}
	for ctx.Err() == nil {
		conn.SetDeadline(time.Time{})
		if _, err := in.Buffered().Peek(1); err != nil {
			return ended(err)
		}
		taken()
		conn.SetDeadline(time.Now().Add(requestTimeout))
		q, ok, err := protocol.ReadRequest(in)
		if err != nil {
			available()
			return ended(err)
		}
		reply := protocol.Reply{Status: protocol.Bad}
		if ok {
			conn.SetDeadline(time.Time{}) // a slow database is not the client's fault
			reply = s.do(ctx, q)
		}
		conn.SetDeadline(time.Now().Add(requestTimeout))
		err = protocol.WriteReply(out, q.Op, reply)
		available()
		if err != nil {
			return err
		}
	}
	return nil
}

// ended is nil for a client that has gone.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// do answers one request.
func (s *server) do(ctx context.Context, q protocol.Request) protocol.Reply {
	for strings.HasPrefix(q.Table, "proxy:") {
		q.Table = strings.TrimPrefix(q.Table, "proxy:")
	}
	if changes := q.Op == protocol.Update || q.Op == protocol.Delete; changes && !s.write {
		s.log.Warn("refusing %s %s request on non-proxywrite service", q.Table, q.Op)
		return protocol.Reply{Status: protocol.Deny}
	}
	if !s.approved[q.Table] {
		s.log.Warn("request for unapproved table: \"%s\"", q.Table)
		s.log.Warn("to approve this table for %s access, list proxy:%s in main.cf:%s", s.access(), q.Table, s.parameter)
		return protocol.Reply{Status: protocol.Deny}
	}
	flags := table.Flags(q.Flags)
	t, err := s.open(q.Table, flags&table.InstanceMask)
	if err != nil {
		s.log.Warn("%v", err)
		return protocol.Reply{Status: protocol.Config}
	}
	request := flags & table.RequestMask
	switch q.Op {
	case protocol.Open:
		return protocol.Reply{Flags: uint32(t.Flags())}
	case protocol.Lookup:
		value, found, err := table.LookupFlags(ctx, t, q.Key, request)
		return protocol.Reply{Status: status(found, err), Value: value}
	case protocol.Update:
		err := table.Update(ctx, t, q.Key, q.Value, request|table.SyncUpdate|table.DupReplace)
		return protocol.Reply{Status: status(true, err)}
	case protocol.Delete:
		found, err := table.Delete(ctx, t, q.Key, request|table.SyncUpdate)
		return protocol.Reply{Status: status(found, err)}
	case protocol.Sequence:
		if q.Function != protocol.First && q.Function != protocol.Next {
			return protocol.Reply{Status: protocol.Bad}
		}
		key, value, ok, err := table.Sequence(ctx, t, q.Function == protocol.First)
		return protocol.Reply{Status: status(ok, err), Key: key, Value: value}
	}
	return protocol.Reply{Status: protocol.Bad}
}

func (s *server) access() string {
	if s.write {
		return "read-write"
	}
	return "read-only"
}

func status(found bool, err error) protocol.Status {
	switch {
	case err != nil && table.IsTemporary(err):
		return protocol.Retry
	case err != nil:
		return protocol.Config
	case !found:
		return protocol.NoKey
	}
	return protocol.OK
}

// open returns the instance of a table, opened once.
func (s *server) open(spec string, flags table.Flags) (table.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := instance{spec, flags}
	if t, ok := s.tables[key]; ok {
		return t, nil
	}
	if len(s.tables) == maxTables {
		return nil, fmt.Errorf("%s: more than %d tables are open", spec, maxTables)
	}
	mode := table.ReadOnly
	if s.write {
		mode = table.ReadWriteCreate
	}
	t, err := table.OpenMode(s.env, spec, mode, flags|table.Lock)
	if err != nil {
		return nil, err
	}
	s.tables[key] = t
	return t, nil
}
