package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/quick"
)

// Job is one delivery request with its open queue file. Its methods may be used
// by several goroutines, but not its fields.
type Job struct {
	deliver.Request // Stats may be filled in as the delivery goes on
	File            *os.File
	Report          *Reporter
	Log             *maillog.Logger

	agent *Agent
	spool *queue.Spool

	mu       sync.Mutex
	finished map[*deliver.Recipient]bool
	reply    deliver.Reply
	corrupt  bool
}

// Result is what an agent says about a recipient. Action may be empty.
type Result struct {
	Relay  string // "none" when there is none
	Status dsn.Status
	Stats  *deliver.Stats // nil: those of the job
}

// Path is the queue file's, for log lines.
func (j *Job) Path() string { return j.spool.Path(j.Queue, j.ID) }

// Envelope is what the bounce services want to know about the message.
func (j *Job) Envelope() bounce.Message {
	return bounce.Message{Queue: j.Queue, ID: j.ID, Encoding: j.Encoding, SMTPUTF8: j.SMTPUTF8,
		Sender: j.Sender, EnvelopeID: j.EnvelopeID, Ret: j.Ret}
}

// Outcome puts a result into the form the Reporter wants.
func (j *Job) Outcome(rcpt *deliver.Recipient, r Result) Outcome {
	o := Outcome{Message: j.Envelope(), Flags: j.Flags, Stats: j.Stats, Rcpt: *rcpt, Relay: r.Relay, Status: r.Status}
	if r.Stats != nil {
		o.Stats = *r.Stats
	}
	return o
}

// Sent reports a recipient of the request as delivered and marks it done.
func (j *Job) Sent(ctx context.Context, rcpt *deliver.Recipient, r Result) (done bool) {
	done = j.Report.Sent(ctx, j.Outcome(rcpt, r))
	j.Finish(rcpt, done, false)
	return done
}

// Bounced reports a recipient of the request as undeliverable and marks it done.
func (j *Job) Bounced(ctx context.Context, rcpt *deliver.Recipient, r Result) (done bool) {
	done = j.Report.Bounced(ctx, j.Outcome(rcpt, r))
	j.Finish(rcpt, done, true)
	return done
}

// Deferred reports a recipient of the request as delayed.
func (j *Job) Deferred(ctx context.Context, rcpt *deliver.Recipient, r Result) (done bool) {
	done = j.Report.Deferred(ctx, j.Outcome(rcpt, r))
	j.Finish(rcpt, done, true)
	return done
}

// Failed is Bounced or Deferred, as the class of the status code says.
func (j *Job) Failed(ctx context.Context, rcpt *deliver.Recipient, r Result) (done bool) {
	if len(r.Status.Code) > 0 && r.Status.Code[0] == '4' {
		return j.Deferred(ctx, rcpt, r)
	}
	return j.Bounced(ctx, rcpt, r)
}

// Finish ends a recipient of the request whose reports were made with j.Report:
// done marks it in the queue file, else the request must be tried again. The
// outcome must be on stable storage before. Who marks when is in
// delivery.md §7.3: failed tells that it ended as a bounce.
func (j *Job) Finish(rcpt *deliver.Recipient, done, failed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.finished[rcpt] = true
	if !done {
		j.reply.Status = deliver.Retry
		return
	}
	if j.Flags&deliver.Success == 0 && !(failed && j.agent.MarkBounced) {
		return
	}
	if err := j.mark(rcpt.Offset); err != nil {
		j.Log.Warn("update queue file %s: %v", j.Path(), maillog.Errno(err))
		j.reply.Status = deliver.Retry
	}
}

func (j *Job) mark(offset int64) error {
	if offset == -1 {
		return nil
	}
	return j.spool.Mark(j.File, offset)
}

// Done says that a recipient needs nothing more of this agent although it marked
// nothing: another agent has marked it.
func (j *Job) Done(rcpt *deliver.Recipient) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.finished[rcpt] = true
}

// Retry makes the final status "try again later".
func (j *Job) Retry() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reply.Status = deliver.Retry
}

// Trouble tells the queue manager that the destination has a problem, so that it
// leaves it alone for a while; the first call counts. The recipients' own
// reports are made as well.
func (j *Job) Trouble(s dsn.Status) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.reply.Trouble == (dsn.Status{}) {
		j.reply.Trouble = s
	}
}

// ClearTrouble takes Trouble back: a later try at the destination worked.
func (j *Job) ClearTrouble() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reply.Trouble = dsn.Status{}
}

// Content reads the message content from its first record; each call gives a
// reader of its own. It ends at the record X, for which the caller looks:
// anything but N, L and X is damage, see Corrupt.
func (j *Job) Content() (*record.Reader, error) {
	r := record.NewReader(quick.NewFile(j.File))
	r.Path = j.Path()
	return r, r.SeekTo(j.DataOffset)
}

// Corrupt sets the queue file aside: the queue manager moves files of that mode
// to the corrupt queue (delivery.md §7.4). There is no report for its recipients.
func (j *Job) Corrupt() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.corrupt = true
	j.reply.Status = deliver.Retry
	j.Log.Warn("corrupted queue file: %s", j.Path())
	if err := j.File.Chmod(queue.ModeCorrupt); err != nil {
		j.Log.Warn("%s: fchmod: %v", j.Path(), maillog.Errno(err))
	}
}

// finish closes the file and returns the reply. A recipient that nobody spoke
// about must not be taken for done.
func (j *Job) finish() deliver.Reply {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.corrupt && len(j.finished) < len(j.Recipients) && j.reply.Status == deliver.Done {
		j.Log.Warn("%s: %d recipients without a result", j.ID, len(j.Recipients)-len(j.finished))
		j.reply.Status = deliver.Retry
	}
	return j.reply
}

// Errors of open. They have been logged.
var errOpen = errors.New("queue file cannot be used")

// open checks the request and opens the queue file with a shared lock
// (ipc.md §2.5 "Agent duties").
func open(a *Agent, spool *queue.Spool, rep *Reporter, log *maillog.Logger, req *deliver.Request) (*Job, error) {
	if !queue.ValidName(req.Queue) || !queue.ValidID(req.ID) {
		log.Warn("bad queue name or id in delivery request: %.100s %.100s", req.Queue, req.ID)
		return nil, errOpen
	}
	if len(req.Recipients) == 0 {
		log.Warn("%s: no recipients in delivery request for destination %s", req.ID, req.NextHop)
		return nil, errOpen
	}
	for i := range req.Recipients {
		if off := req.Recipients[i].Offset; off < -1 || off == 0 {
			log.Warn("%s: bad recipient offset %d in delivery request", req.ID, off)
			return nil, errOpen
		}
	}
	f, err := spool.Open(req.Queue, req.ID, os.O_RDWR|syscall.O_NOFOLLOW)
	if err != nil {
		log.Warn("open %s %s: %v", req.Queue, req.ID, maillog.Errno(err))
		return nil, errOpen
	}
	var info syscall.Stat_t
	errno := quick.Fstat(f, &info)
	switch {
	case errno != 0:
		err = fmt.Errorf("stat: %w", errno)
	case info.Mode&syscall.S_IFMT != syscall.S_IFREG:
		err = errors.New("not a regular file")
	case fs.FileMode(info.Mode&0o777)&queue.ModeReady != queue.ModeReady:
		err = errors.New("not a complete message")
	default:
		if err = queue.Lock(f, false); err != nil {
			err = fmt.Errorf("shared lock: %w", err)
		}
	}
	if err != nil {
		log.Warn("%s: %v", spool.Path(req.Queue, req.ID), err)
		f.Close()
		return nil, errOpen
	}
	if req.Stats.Handoff.IsZero() {
		req.Stats.Handoff = time.Now()
	}
	return &Job{Request: *req, File: f, Report: rep, Log: log, agent: a, spool: spool,
		finished: make(map[*deliver.Recipient]bool)}, nil
}
