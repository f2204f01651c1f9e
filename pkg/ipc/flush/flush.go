// Package flush is the protocol of the service "flush", which remembers for
// each destination which messages wait for it, and sends them on demand (spec
// ipc.md §2.9): the client, and the codec of the server.
//
// A Client returns the server's verdict as a Status, and an error when it
// could not be asked.
package flush

import (
	"context"
	"fmt"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// Protocol is what the server announces.
const Protocol = "queue_flush_protocol"

// Requests.
const (
	Add      = "add"       // append a queue id to a site's log
	SendSite = "send_site" // deliver what is logged for a site
	SendFile = "send_file" // deliver one message
	Refresh  = "rfrsh"     // deliver what was logged for too long
	Purge    = "purge"     // as Refresh, with every site due
)

// Status is the server's verdict.
type Status int

// Verdicts.
const (
	OK     Status = 0
	Failed Status = -1
	Bad    Status = 3 // the request makes no sense
	Denied Status = 4 // the site is not in fast_flush_domains
)

// Request is what a client wants. Site and QueueID are empty where the
// request has none.
type Request struct {
	Name    string
	Site    string
	QueueID string
}

// fields tells which attributes follow the name of a request.
var fields = map[string]struct{ site, id bool }{
	Add:      {true, true},
	SendSite: {true, false},
	SendFile: {false, true},
	Refresh:  {},
	Purge:    {},
}

// Client asks the server. The zero value of Dialer works.
type Client struct {
	Dialer  dial.Dialer
	Service string // flush_service_name; "" is "flush"
}

// Add records that a message waits for a site.
func (c Client) Add(ctx context.Context, site, id string) (Status, error) {
	return c.Do(ctx, Request{Name: Add, Site: site, QueueID: id})
}

// SendSite asks for delivery of what waits for a site.
func (c Client) SendSite(ctx context.Context, site string) (Status, error) {
	return c.Do(ctx, Request{Name: SendSite, Site: site})
}

// SendFile asks for delivery of one message.
func (c Client) SendFile(ctx context.Context, id string) (Status, error) {
	return c.Do(ctx, Request{Name: SendFile, QueueID: id})
}

// Refresh asks for delivery of what was logged for too long.
func (c Client) Refresh(ctx context.Context) (Status, error) {
	return c.Do(ctx, Request{Name: Refresh})
}

// Purge asks for delivery of everything that is logged.
func (c Client) Purge(ctx context.Context) (Status, error) {
	return c.Do(ctx, Request{Name: Purge})
}

// Do makes one request on a connection of its own. There is one attempt; a
// failure to connect is logged by the Dialer's Log.
func (c Client) Do(ctx context.Context, req Request) (Status, error) {
	service := c.Service
	if service == "" {
		service = "flush"
	}
	conn, err := c.Dialer.Dial(ctx, dial.Public, service)
	if err != nil {
		if c.Dialer.Log != nil {
			c.Dialer.Log.Warn("connect to %s/%s: %s", dial.Public, service, dial.Reason(err))
		}
		return Failed, err
	}
	defer conn.Close()
	defer conn.Bind(ctx)()
	if err := conn.Expect(Protocol); err != nil {
		return Failed, err
	}
	if err := WriteRequest(conn.Out, req); err != nil {
		return Failed, err
	}
	var status int
	if err := conn.In.Scan(attr.Int("status", &status)); err != nil {
		return Failed, err
	}
	return Status(status), nil
}

// WriteRequest sends a request.
func WriteRequest(w *attr.Writer, req Request) error {
	want, ok := fields[req.Name]
	if !ok {
		return fmt.Errorf("flush: unknown request %q", req.Name)
	}
	w.Str("request", req.Name)
	if want.site {
		w.Str("site", req.Site)
	}
	if want.id {
		w.Str("queue_id", req.QueueID)
	}
	return w.Send()
}

// ReadRequest is the server's side. A trigger (two bytes at most, "W\0" from
// master's wake-up timer) is returned as Refresh. ok is false for a request
// that must be answered with Bad: one without a name, or without what belongs
// to it. An unknown name is returned as it is, to be left without an answer.
// The error is that of the stream; io.EOF is a client that asked nothing.
func ReadRequest(r *attr.Reader) (req Request, ok bool, err error) {
	if trigger(r) {
		return Request{Name: Refresh}, true, nil
	}
	list, err := r.List()
	if err != nil {
		return Request{}, false, err
	}
	name, found := list.Get("request")
	if !found {
		return Request{}, false, nil
	}
	req.Name = name
	want := fields[name]
	var places []attr.Field
	if want.site {
		places = append(places, attr.Str("site", &req.Site))
	}
	if want.id {
		places = append(places, attr.Str("queue_id", &req.QueueID))
	}
	if _, err := list.Scan(r.From(), places...); err != nil {
		return req, false, nil
	}
	return req, true, nil
}

// Known reports whether a request has a meaning.
func (r Request) Known() bool {
	_, ok := fields[r.Name]
	return ok
}

// trigger consumes a trigger if there is one. Whoever sends a trigger writes
// its bytes in two steps and closes: what has arrived by the first read is
// then one or two bytes, and no request is as short.
func trigger(r *attr.Reader) bool {
	in := r.Buffered()
	if _, err := in.Peek(1); err != nil || in.Buffered() > 2 {
		return false
	}
	waiting, _ := in.Peek(in.Buffered())
	if waiting[len(waiting)-1] != 0 && len(waiting) == 2 {
		return false
	}
	if waiting[0] == 'r' { // the first byte of "request", from a slow writer
		return false
	}
	in.Discard(len(waiting))
	return true
}

// Announce is what a server says first.
func Announce(w *attr.Writer) error { return attr.Announce(w, Protocol) }

// WriteReply is a server's answer.
func WriteReply(w *attr.Writer, s Status) error { return w.Int("status", int(s)).Send() }
