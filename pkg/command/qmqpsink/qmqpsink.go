// Package qmqpsink is the command qmqp-sink: a QMQP server that accepts mail
// and throws it away.
package qmqpsink

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/load"
	"posthaste/pkg/sys/maillog"
)

const (
	usageText  = "usage: %s [-cv] [-x time] [host]:port backlog"
	timeout    = 100 * time.Second // to receive a message, or to send the answer
	bufferSize = 16 << 10
	maxClients = 256     // at once; others wait in the kernel's queue
	maxSize    = 1 << 40 // bytes of a message, which is not kept
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. It ends after
// the time that -x gives, else never.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

func run(args []string, env command.Env) int {
	log := load.Logger(args, env, 0)
	usage := func() { log.Fatal(usageText, args[0]) }
	given, rest, err := getopt.Parse(args[1:], "46cvx:")
	var unknown *getopt.Error
	if errors.As(err, &unknown) {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], unknown)
		usage()
	}
	var family, verbose, life int
	k := &sink{env: env}
	for _, g := range given {
		ok := true
		switch g.Letter {
		case '4', '6':
			family = int(g.Letter - '0')
		case 'c':
			k.show = true
		case 'v':
			verbose++
		case 'x':
			life, ok = load.Number(g.Value, 1)
		}
		if !ok {
			usage()
		}
	}
	if len(rest) != 2 {
		usage()
	}
	backlog, ok := load.Number(rest[1], 1)
	if !ok {
		usage()
	}
	k.log = load.Logger(args, env, verbose)
	l, err := listen(rest[0], family, backlog)
	if err != nil {
		log.Fatal("%v", err)
	}
	go k.serve(l)
	if life == 0 {
		select {}
	}
	time.Sleep(time.Duration(life) * time.Second)
	return 0
}

func listen(address string, family, backlog int) (net.Listener, error) {
	a, err := load.Parse(address, "", family)
	if err == nil {
		err = a.Resolve()
	}
	if err != nil {
		return nil, err
	}
	return a.Listen(backlog, 0)
}

type sink struct {
	env  command.Env
	log  *maillog.Logger
	show bool

	mu   sync.Mutex
	done int
}

func (k *sink) serve(l net.Listener) {
	places := make(chan struct{}, maxClients)
	for {
		places <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			k.log.Warn("accept: %v", load.Reason(err))
			<-places
			continue
		}
		go func() {
			defer func() { <-places }()
			k.session(c)
		}()
	}
}

// errFormat is what a client gets wrong.
var errFormat = errors.New("netstring format error")

func (k *sink) session(c net.Conn) {
	defer c.Close()
	if k.log.Verbose() > 0 {
		k.log.Info("connect (%s)", c.RemoteAddr())
	}
	_ = c.SetDeadline(time.Now().Add(timeout))
	err := receive(c)
	if err == nil {
		_, err = io.WriteString(c, "3:KOk,")
	}
	switch {
	case errors.Is(err, errFormat):
		k.log.Warn("%v", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		k.log.Warn("timeout")
	case err != nil:
		k.log.Warn("lost connection")
	default:
		k.count()
	}
}

func (k *sink) count() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done++
	if k.show {
		fmt.Fprintf(k.env.Stdout, "%d\r", k.done)
	}
}

// receive reads one netstring and forgets it.
func receive(c net.Conn) error {
	r := bufio.NewReaderSize(c, bufferSize)
	size := int64(0)
	for n := 0; ; n++ {
		d, err := r.ReadByte()
		if err != nil {
			return err
		}
		if d == ':' && n > 0 {
			break
		}
		if d < '0' || d > '9' {
			return errFormat
		}
		if size = size*10 + int64(d-'0'); size > maxSize {
			return errFormat
		}
	}
	if _, err := io.CopyN(io.Discard, deadline{c, r}, size); err != nil {
		return err
	}
	end, err := r.ReadByte()
	if err == nil && end != ',' {
		err = errFormat
	}
	return err
}

// deadline gives each read of a long message its own time.
type deadline struct {
	c net.Conn
	r io.Reader
}

func (d deadline) Read(p []byte) (int, error) {
	if err := d.c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	return d.r.Read(p)
}
