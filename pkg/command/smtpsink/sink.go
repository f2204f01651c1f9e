// Package smtpsink is the command smtp-sink: an SMTP or LMTP server that takes
// mail and throws it away, or misbehaves as it is told. Its options and replies
// are the original's, so that either can stand in for the other in a test.
package smtpsink

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/load"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. It ends after as
// many messages (-M) or sessions (-n) as were asked for, else never.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

func run(args []string, env command.Env) int {
	log := load.Logger(args, env, 0)
	s, err := parse(args[1:])
	var bad *usageError
	var unknown *getopt.Error
	switch {
	case errors.As(err, &unknown):
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], unknown)
		log.Fatal(usageText, args[0])
	case errors.As(err, &bad):
		if bad.text != "" {
			log.Error("%s", bad.text)
		}
		log.Fatal(usageText, args[0])
	case err != nil:
		log.Fatal("%v", err)
	}
	log = load.Logger(args, env, s.verbose)
	k := &sink{settings: s, log: log, env: env, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	k.dumper = newDumper(s)
	if s.logs() {
		k.syslog = maillog.New(maillog.Config{Tag: filepath.Base(args[0]), ManyErrors: true})
	}
	l, err := k.listen()
	if err != nil {
		log.Fatal("%v", err)
	}
	k.serve(l)
	return 0
}

// sink is the running server.
type sink struct {
	*settings
	log    *maillog.Logger
	syslog *maillog.Logger // -s; nil discards
	env    command.Env
	dumper *dumper

	mu                        sync.Mutex
	conns                     map[net.Conn]bool
	nSessions, nQuits, nMails int
	ended                     bool
	done                      chan struct{}
}

// logs tells whether any command is to be logged.
func (s *settings) logs() bool {
	for _, b := range s.behaviour {
		if b.log {
			return true
		}
	}
	return false
}

// listen opens the socket, then gives up root.
func (k *sink) listen() (net.Listener, error) {
	if os.Getuid() == 0 && k.user == "" {
		return nil, errors.New("-u option is required if running as root")
	}
	var id cred.Identity
	if k.user != "" {
		var err error
		if id, err = cred.Lookup(k.user); err != nil {
			return nil, fmt.Errorf("unknown user: %s", k.user)
		}
		if id, err = cred.WithGroups(id); err != nil {
			return nil, err
		}
	}
	a, err := load.Parse(k.address, "", k.family)
	if err == nil {
		err = a.Resolve()
	}
	if err != nil {
		return nil, err
	}
	l, err := a.Listen(k.backlog, k.window)
	if err != nil {
		return nil, err
	}
	if err := drop(k.root, k.user, id); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// drop changes root directory and user for good.
func drop(root, user string, id cred.Identity) error {
	if root != "" {
		if err := syscall.Chroot(root); err != nil {
			return fmt.Errorf("chroot(%s): %w", root, maillog.Errno(err))
		}
		if err := os.Chdir("/"); err != nil {
			return fmt.Errorf("chdir(/): %w", load.Reason(err))
		}
	}
	if user == "" {
		return nil
	}
	if os.Getuid() == 0 {
		if err := syscall.Setgroups(id.Groups); err != nil {
			return fmt.Errorf("setgroups: %w", maillog.Errno(err))
		}
	}
	if err := syscall.Setgid(id.GID); err != nil {
		return fmt.Errorf("setgid(%d): %w", id.GID, maillog.Errno(err))
	}
	if err := syscall.Setuid(id.UID); err != nil {
		return fmt.Errorf("setuid(%d): %w", id.UID, maillog.Errno(err))
	}
	return nil
}

// serve accepts until the counts are reached; it waits for no session, as the
// original does not.
func (k *sink) serve(l net.Listener) {
	places := make(chan struct{}, k.concurrency)
	go func() {
		for {
			places <- struct{}{}
			c, err := l.Accept()
			if err != nil {
				select {
				case <-k.done:
					return
				default:
				}
				k.log.Warn("accept: %v", load.Reason(err))
				<-places
				continue
			}
			k.mu.Lock()
			k.conns[c] = true
			k.mu.Unlock()
			go func() {
				defer func() { <-places }()
				newSession(k, c).run()
			}()
		}
	}()
	<-k.done
	l.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		c.Close()
	}
}

// count adds to the counters, shows them, and reports whether the program goes
// on. A message is counted before its reply, which the last one does not get.
func (k *sink) count(session, quit, mail int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.nSessions += session
	k.nQuits += quit
	k.nMails += mail
	if k.show {
		fmt.Fprintf(k.env.Stdout, "sess=%d quit=%d mesg=%d\r", k.nSessions, k.nQuits, k.nMails)
	}
	if k.messages > 0 && mail > 0 && k.nMails >= k.messages || k.sessions > 0 && session > 0 && k.nSessions >= k.sessions {
		k.ended = true
		close(k.done)
	}
	return !k.ended
}

func (k *sink) forget(c net.Conn) {
	k.mu.Lock()
	delete(k.conns, c)
	k.mu.Unlock()
	c.Close()
}
