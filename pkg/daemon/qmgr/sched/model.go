package sched

import (
	"time"

	"posthaste/pkg/ipc/deliver"
)

// Recipient is one recipient of a message as read from the queue file.
type Recipient = deliver.Recipient

// Routed is a recipient with the destination it was resolved to.
type Routed struct {
	Recipient
	Transport string
	Queue     string // destination name, lower case; see QueueName in the queue manager
	Nexthop   string // as the agent shall see it
}

// Message is one message in memory. The owner fills the exported fields before
// Add and, but for Deferred, does not change them afterwards.
type Message struct {
	ID        string
	Info      any       // the owner's; never looked at here
	Activated time.Time // only whole seconds matter here
	OneByOne  bool      // VERP: one recipient a request
	Deferred  bool      // a delivery left something to be tried again

	reading  bool
	away     bool // a BatchDone action is out: the owner decides what follows
	unread   int  // recipients still in the file only
	entries  int  // requests that exist, waiting or busy
	rcpts    int  // recipients in memory
	limit    int  // recipients allowed in memory
	lastRead time.Time
	jobs     []*Job
}

// Recipients is the number of the message's recipients in memory.
func (m *Message) Recipients() int { return m.rcpts }

// Unread is the number of recipients that were not read from the file yet.
func (m *Message) Unread() int { return m.unread }

func (m *Message) seconds() int64 { return m.Activated.Unix() }

// Transport is a delivery agent service.
type Transport struct {
	Name   string
	Config TransportConfig

	dead    *Reason
	timer   *timer
	locked  bool // rate delay: one connection or delivery at a time
	pending int  // connections asked for and not Ready yet
	ready   int  // sum over the queues of what could start now
	queues  map[string]*Queue

	order   list[*Job]   // the job list of §4.6
	turns   list[*Queue] // destinations with something startable, if these take turns
	current *Job
	blocker int        // jobs and queues with this mark are blocked
	unread  list[*Job] // jobs with recipients to read, oldest first
	free    int        // unused recipient slots
	cand    candidate
}

// candidate remembers the outcome of a search for a preempting job.
type candidate struct {
	valid  bool
	of     *Job
	best   *Job
	second int64
}

// Queue is a destination of a transport.
type Queue struct {
	Name    string
	Nexthop string

	t         *Transport
	window    int
	success   float64
	failure   float64
	cohorts   float64
	busy      int
	waiting   int // entries
	ready     int // its part of Transport.ready
	dead      *Reason
	suspended bool // between two deliveries of a rate limited destination
	timer     *timer
	blocker   int
	lastDone  int64 // second in which a delivery ended; 0 = none yet
	cache     bool  // deliveries follow each other closely
	store     bool
	clogged   time.Time // of the last warning
	peers     list[*peer]
	turn      elem[*Queue] // in Transport.turns
}

// Reason says why a transport or destination is avoided: an enhanced status code
// (4.x.x) and a text.
type Reason struct{ Status, Text string }

func (r Reason) nexthop() string { return r.Status + " " + r.Text }

// Job is a message's share of one transport.
type Job struct {
	m     *Message
	t     *Transport
	pos   elem[*Job] // in Transport.order
	upos  elem[*Job] // in Transport.unread
	peers peers
	todo  list[*peer] // peers with waiting entries, round robin

	waiting  int // entries not started
	rcpts    int // recipients in memory
	limit    int // recipient slots owned
	read     int // entries created
	selected int // entries started or taken away
	avail    int // delivery slots earned
	used     int
	level    int
	parent   *Job // the job below in the stack
	victim   *Job // the job this one preempted
	children int  // jobs whose parent this is
	blocker  int
}

// peer is the meeting of a job and a queue.
type peer struct {
	j    *Job
	q    *Queue
	jpos elem[*peer] // in Job.todo
	qpos elem[*peer] // in Queue.peers
	wait []*Entry
	busy int
}

// Entry is one delivery request.
type Entry struct {
	Message    *Message
	Recipients []Recipient
	CacheLoad  bool // connection cache flags for this request
	CacheStore bool

	p *peer
}

// Transport is the name of the service to which the request goes.
func (e *Entry) Transport() string { return e.p.q.t.Name }

// Nexthop is the request's next hop.
func (e *Entry) Nexthop() string { return e.p.q.Nexthop }

// ActionKind says what the owner has to do.
type ActionKind int

const (
	Connect   ActionKind = iota // open a connection to Transport, wait for its greeting, then Delay, then call Ready or ConnectFailed
	Refill                      // read at most N more recipients of Message, then call Assign
	BatchDone                   // no request of Message is left: call NextBatch or Remove when its notices are sent
	Defer                       // write Entry's recipients to the defer log with Reason, then call Deferred
)

// Action is one thing the owner has to do.
type Action struct {
	Kind      ActionKind
	Transport *Transport
	Message   *Message
	Entry     *Entry
	Reason    Reason
	N         int
	Delay     time.Duration
}
