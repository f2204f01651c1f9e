// Package qmqpsource is the command qmqp-source: it sends messages to a QMQP
// server (as qmqpd is), one a connection, over as many connections at once as
// it is told.
package qmqpsource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/load"
)

const (
	usageText  = "usage: %s -cv -s sess -l msglen -m msgs -C count -M myhostname -f from -t to -R delay -w delay host[:port]"
	port       = "628"
	stockSize  = 1024
	maxReply   = 10 << 10 // bytes of a server's answer
	dateLayout = "Mon, _2 Jan 2006 15:04:05 -0700 (MST)"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. The exit status
// is 0 when the server accepted all messages.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

func run(args []string, env command.Env) int {
	log := load.Logger(args, env, 0)
	s := load.NewSource(log, env)
	given, rest, err := getopt.Parse(args[1:], load.SourceOptions)
	var unknown *getopt.Error
	if errors.As(err, &unknown) {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], unknown)
		log.Fatal(usageText, args[0])
	}
	for _, g := range given {
		switch err := s.Option(g); {
		case errors.Is(err, load.ErrPauses):
			log.Fatal("%v", err)
		case err != nil:
			log.Fatal(usageText, args[0])
		}
	}
	if len(rest) != 1 {
		log.Fatal(usageText, args[0])
	}
	if err := s.Ready(rest[0], port); err != nil {
		log.Fatal("%v", err)
	}
	request := request(s, time.Now())
	return s.Run(func(int) error {
		for first := true; ; first = false {
			if _, ok := s.Take(); !ok {
				return nil
			}
			if !first {
				s.Pause.Wait()
			}
			if err := send(s, request); err != nil {
				return err
			}
			s.Done()
		}
	})
}

// request is what is sent: it is the same for every message.
func request(s *load.Source, now time.Time) []byte {
	b := netstring(nil, content(s, now))
	b = netstring(b, []byte(s.From))
	if s.Recipients == 1 {
		return netstring(nil, netstring(b, []byte(s.To)))
	}
	for n := range s.Recipients {
		b = netstring(b, strconv.AppendInt(nil, int64(n), 10), []byte(s.To))
	}
	return netstring(nil, b)
}

// netstring appends the parts as one netstring.
func netstring(b []byte, parts ...[]byte) []byte {
	text := bytes.Join(parts, nil)
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(b, ':')
	b = append(b, text...)
	return append(b, ',')
}

// content is a message of the length that was asked for, headers included:
// lines of X, each longer than the one before, cut off by a last newline.
func content(s *load.Source, now time.Time) []byte {
	size := s.Length
	if size == 0 {
		size = stockSize
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\nTo: <%s>\nDate: %s\nMessage-Id: <%d@%s>\n\n",
		s.From, s.To, now.Format(dateLayout), os.Getpid(), s.Host)
	for n := 1; b.Len() < size; n++ {
		b.Write(bytes.Repeat([]byte{'X'}, min(n, size)))
		b.WriteByte('\n')
	}
	b.Truncate(size - 1)
	b.WriteByte('\n')
	return b.Bytes()
}

// send delivers one message.
func send(s *load.Source, request []byte) error {
	c, err := s.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err = c.W.Write(request); err == nil {
		err = c.Flush()
	}
	if err != nil {
		return load.Lost(err, "sending message")
	}
	text, err := reply(c)
	switch {
	case errors.Is(err, errFormat):
		return fmt.Errorf("%w while receiving server reply", err)
	case err != nil:
		return load.Lost(err, "receiving server reply")
	case text == "":
		return errors.New("empty server reply")
	}
	if kind, bad := refusals[text[0]]; bad {
		return fmt.Errorf("%s: %s", kind, text[1:])
	}
	if text[0] != 'K' {
		return fmt.Errorf("unknown error: %s", text[1:])
	}
	return nil
}

var refusals = map[byte]string{'Z': "recoverable error", 'D': "unrecoverable error"}

var errFormat = errors.New("netstring format error")

// reply reads the server's netstring.
func reply(c *load.Conn) (string, error) {
	size := 0
	for n := 0; ; n++ {
		d, err := c.R.ReadByte()
		if err != nil {
			return "", err
		}
		if d == ':' && n > 0 {
			break
		}
		if d < '0' || d > '9' {
			return "", errFormat
		}
		if size = size*10 + int(d-'0'); size > maxReply {
			return "", errFormat
		}
	}
	text := make([]byte, size+1)
	if _, err := io.ReadFull(c.R, text); err != nil {
		return "", err
	}
	if text[size] != ',' {
		return "", errFormat
	}
	return string(text[:size]), nil
}
