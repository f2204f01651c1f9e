// Package postlogd writes the records of all other programs to maillog_file
// (spec master.md §8.2). A new file after a rotation is opened by its
// successor, which master starts after the reload.
package postlogd

import (
	"context"
	"fmt"
	"os"
	"strings"

	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// daemon is the running postlogd.
type daemon struct {
	path  string
	file  *os.File       // nil: relay to syslog
	relay *maillog.Relay // nil: write to file
}

// Main runs the daemon; args[0] is the name it was called as.
func Main(args []string) int {
	d := &daemon{}
	return service.Run(service.Service{
		Name: "postlogd", Kind: service.Dgram, Requires: service.One, NoMaxUse: true,
		Watchdog: "postlogd_watchdog_timeout",
		Setup:    d.setup,
		Datagram: d.record,
	}, args, os.Environ())
}

// setup opens the file as root.
func (d *daemon) setup(rt *service.Runtime) error {
	d.path = rt.Config.String("maillog_file")
	if d.path == "" {
		d.relay = maillog.NewRelay(rt.Config.String("syslog_facility"))
		return nil
	}
	f, err := open(d.path)
	if err != nil {
		return fmt.Errorf("open logfile '%s': %w", d.path, err)
	}
	d.file = f
	rt.Log.Divert(f)
	return nil
}

// open opens the log file. Standard output is used as it is, whatever it is.
func open(path string) (*os.File, error) {
	f, err := maillog.OpenFile(path)
	if err != nil && path == "/dev/stdout" {
		return os.Stdout, nil
	}
	return f, err
}

// record writes one datagram.
func (d *daemon) record(_ context.Context, rt *service.Runtime, packet []byte) {
	line := clean(packet)
	if d.file == nil {
		d.relay.Send(split(string(line)))
		return
	}
	if _, err := d.file.Write(append(line, '\n')); err != nil {
		rt.Log.Fatal("logfile '%s' write error: %v", d.path, maillog.Errno(err))
	}
}

// clean keeps a record on one line.
func clean(packet []byte) []byte {
	line := make([]byte, len(packet), len(packet)+1)
	for i, c := range packet {
		if c == '\n' || c == '\r' || c == 0 {
			c = '?'
		}
		line[i] = c
	}
	return line
}

// split takes date and host away and parts the tag from the text.
func split(line string) (ident, text string) {
	rest := line
	for range 4 {
		rest = strings.TrimLeft(rest, " ")
		_, rest, _ = strings.Cut(rest, " ")
	}
	ident, text, found := strings.Cut(rest, ": ")
	if !found {
		return "postfix/postlogd", line
	}
	return ident, text
}
