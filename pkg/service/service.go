// Package service is the daemon side of master's contract: options, the
// ladder of privileges, the accept loop with its limits, status messages, and
// the end of a daemon (spec master.md §1 and §7).
//
// A daemon is a Service value: what it is called, how it takes part in the
// contract, and hooks named for the stage in which they run. Run is its whole
// life. One process serves many clients at once, one goroutine each; it tells
// master that it is available as long as it has a free place, so that master
// does not start a second one (DESIGN §3).
//
// A hook's error ends the process with a fatal record, an error of Serve ends
// that client and is logged as a warning unless it is io.EOF or nil. A panic in
// Serve is logged with its stack and ends that client only.
package service

import (
	"context"
	"net"

	"posthaste/pkg/conf"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/flow"
	"posthaste/pkg/sys/maillog"
)

// Kind is how a daemon takes part in the contract (spec §1.9).
type Kind int

const (
	Single  Kind = iota // a connection is one client with one request
	Multi               // a connection carries many requests and stays open
	Trigger             // a connection carries a few bytes, each a request
	Event               // as Single, and the daemon drains rather than leaves
	Dgram               // a datagram is a request
)

// Limit is the process limit in master.cf that a daemon insists on.
type Limit int

const (
	None Limit = iota // any
	One               // "service NAME requires a process limit of 1"
	Zero              // "... of 0"
)

// Service describes a daemon.
type Service struct {
	Name       string // program name; "" is the base of argv[0]
	Kind       Kind
	Requires   Limit
	Privileged bool   // must not have -u: keeps root as real user
	KeepRoot   bool   // stays root when master.cf has unprivileged=n (proxymap); others are dropped all the same
	NoMaxUse   bool   // max_use does not apply
	NoMaxIdle  bool   // max_idle does not apply
	MinIdle    string // name of a time parameter: max_idle is at least that (anvil_rate_time_unit)
	Retire     bool   // leaves after max_idle*max_use seconds, at most 18000
	OwnSession bool   // survives the SIGTERM that master sends to its process group
	FlowToken  bool   // takes a token from the flow pipe for each connection (cleanup)
	Watchdog   string // name of the time parameter; "" is daemon_timeout, for Event, Trigger and Dgram 1000s
	Quick      bool   // Trigger returns at once and may be called several times at a time: no place is taken for it (qmgr)
	Arguments  bool   // takes arguments after its options (otherwise they are a fatal error)
	Files      int    // open files that a client costs, for daemons without a process limit; 0 is 16
	Options    string // own option letters beside the common ones, as for getopt ("x:y"); values in Runtime.Options

	Setup    func(rt *Runtime) error                                 // as root, before chroot: open tables, sockets, files
	Start    func(ctx context.Context, rt *Runtime) error            // after the drop
	Serve    func(ctx context.Context, conn *Conn) error             // one connection: Single, Multi, Event
	Trigger  func(ctx context.Context, rt *Runtime, requests []byte) // one message, never two at a time unless Quick
	Datagram func(ctx context.Context, rt *Runtime, packet []byte)   // one datagram, never two at a time
	Loop     func(ctx context.Context, rt *Runtime) error            // runs beside the accept loop until ctx ends; its return ends the daemon
	Stop     func(rt *Runtime)                                       // the daemon has stopped accepting; clients are still served
	Done     func(rt *Runtime)                                       // after the last client, before exit 0
	// TableChanged tells before each accept whether a table has changed and
	// the daemon is to restart (daemons marked T in the spec).
	TableChanged func() (name string, changed bool)
}

// Runtime is what Run gives the hooks.
type Runtime struct {
	Config      *conf.Config
	Log         *maillog.Logger
	Args        []string        // what follows the options in master.cf
	Options     map[byte]string // the daemon's own options (Service.Options)
	ServiceName string          // -n, else the program name
	ProcessName string          // base of argv[0]
	Transport   string          // inet, unix, fifo, pass, unix-dgram; "" stand-alone
	Root        bool            // started by root
	Chroot      bool            // runs in queue_directory
	StandAlone  bool            // -S: one client on standard input and output
	Owner       cred.Identity   // mail_owner; who we are when not started by root
	Places      int             // number of clients served at once
	FlowControl *flow.Control   // the token pipe
	Queue       *queue.Spool    // the queue, relative to the working directory
}

// Conn is one client's connection. Reads and writes that have no deadline of
// their own get ipc_timeout each.
type Conn struct {
	net.Conn
	Runtime   *Runtime
	Transport string            // as Runtime.Transport
	Attrs     map[string]string // what came with a passed descriptor

	state *connState
}
