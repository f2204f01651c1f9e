// Package rewrite is the protocol of trivial-rewrite, "trivial_rewrite_protocol"
// (spec ipc.md §2.4, routing.md §3.1): turning an address into its canonical
// form and finding out where its mail goes.
//
// Client is for any number of goroutines. It repeats a failed exchange for ever,
// one second apart, logging what is wrong; so the only errors it returns are
// the context's and ErrAddress.
package rewrite

import (
	"fmt"

	"posthaste/pkg/ipc/attr"
)

// Protocol is what the service announces.
const Protocol = "trivial_rewrite_protocol"

// Rules of Rewrite: whose domains complete an address.
const (
	Local  = "local"  // myorigin, mydomain
	Remote = "remote" // remote_header_rewrite_domain
)

// Flags of a resolved address.
type Flags int

// Result flags; of the five address classes exactly one is set.
const (
	Final  Flags = 1 // never set
	Routed Flags = 2 // the local part contains @, % or !
	Error  Flags = 4 // malformed address: the other fields are place-holders
	Fail   Flags = 8 // table lookup problem: the other fields are unusable
	Class  Flags = ClassLocal | ClassAlias | ClassVirtual | ClassRelay | ClassDefault

	ClassLocal   Flags = 256
	ClassAlias   Flags = 512  // virtual alias domain
	ClassVirtual Flags = 1024 // virtual mailbox domain
	ClassRelay   Flags = 2048
	ClassDefault Flags = 4096
)

// Reply says where mail for an address goes.
type Reply struct {
	Transport string
	NextHop   string
	Recipient string // internal form
	Flags     Flags
}

// Request is one request as the service gets it.
type Request struct {
	Kind    string // RequestRewrite, RequestResolve or RequestVerify
	Rule    string // of RequestRewrite: not checked here
	Sender  string // of the others
	Address string // external form for RequestRewrite, else internal
}

// Kinds of requests.
const (
	RequestRewrite = "rewrite"
	RequestResolve = "resolve"
	RequestVerify  = "verify" // resolve with the address_verify_* parameters
)

// BadCommandError is an unknown request; the service drops the connection.
type BadCommandError struct{ Command string }

func (e *BadCommandError) Error() string { return fmt.Sprintf("bad command %.30s", e.Command) }

// ReadRequest reads the next request of a client: io.EOF at its end,
// *BadCommandError for an unknown one, *attr.Error for a broken list.
func ReadRequest(in *attr.Reader) (Request, error) {
	var r Request
	list, err := in.List()
	if err != nil {
		return r, err
	}
	if _, err := list.Scan(in.From(), attr.Str("request", &r.Kind)); err != nil {
		return r, err
	}
	first := attr.Str("sender", &r.Sender)
	switch r.Kind {
	case RequestRewrite:
		first = attr.Str("rule", &r.Rule)
	case RequestResolve, RequestVerify:
	default:
		return r, &BadCommandError{r.Kind}
	}
	_, err = list.Scan(in.From(), attr.Str("request", &r.Kind), first, attr.Str("address", &r.Address))
	return r, err
}

// WriteRequest sends a request.
func WriteRequest(w *attr.Writer, r Request) error {
	w.Str("request", r.Kind)
	if r.Kind == RequestRewrite {
		w.Str("rule", r.Rule)
	} else {
		w.Str("sender", r.Sender)
	}
	return w.Str("address", r.Address).Send()
}

// WriteRewritten sends the reply to RequestRewrite.
func WriteRewritten(w *attr.Writer, address string) error {
	return w.Int("flags", 0).Str("address", address).Send()
}

// WriteReply sends the reply to RequestResolve and RequestVerify.
func WriteReply(w *attr.Writer, r Reply) error {
	w.Int("flags", 0).Str("transport", r.Transport).Str("nexthop", r.NextHop)
	return w.Str("recipient", r.Recipient).Int("flags", int(r.Flags)).Send()
}

// readRewritten and readReply also return the server's state: not 0 when it is
// about to restart.
func readRewritten(in *attr.Reader) (address string, server int, err error) {
	err = in.Scan(attr.Int("flags", &server), attr.Str("address", &address))
	return address, server, err
}

func readReply(in *attr.Reader) (r Reply, server int, err error) {
	var flags int
	err = in.Scan(attr.Int("flags", &server), attr.Str("transport", &r.Transport), attr.Str("nexthop", &r.NextHop),
		attr.Str("recipient", &r.Recipient), attr.Int("flags", &flags))
	r.Flags = Flags(flags)
	return r, server, err
}
