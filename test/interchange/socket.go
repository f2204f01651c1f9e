package interchange

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/test/world"
)

// inquiry is what the battery asks a service over its own protocol (spec
// ipc.md §2), through its unix socket and, where Debian's daemon can be had
// there, through an inet row of master.cf.
type inquiry struct {
	unix     string // below the queue directory
	inet     string
	coding   attr.Codec
	announce string // the protocol's name, or empty
	// requests are lists "name=value|name=value"; each is answered by a list.
	requests []string
	// one is set where each request needs a connection of its own.
	one bool
}

// ask makes the inquiry over both sockets and returns all that was said.
func (q inquiry) ask(w *world.World, tag string) (string, error) {
	var b strings.Builder
	for _, address := range []string{"unix:" + q.unix, q.inet} {
		if address == "" {
			continue
		}
		rounds := [][]string{q.requests}
		if q.one {
			rounds = nil
			for _, r := range q.requests {
				rounds = append(rounds, []string{r})
			}
		}
		fmt.Fprintf(&b, "over %s\n", strings.SplitN(address, ":", 2)[0])
		for _, requests := range rounds {
			if err := q.round(w, address, tag, requests, &b); err != nil {
				return b.String(), fmt.Errorf("%s: %w\n%s", address, err, b.String())
			}
		}
	}
	return b.String(), nil
}

func (q inquiry) round(w *world.World, address, tag string, requests []string, b *strings.Builder) error {
	conn, err := dial(w, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	r, out := attr.NewReader(conn, q.coding, address), attr.NewWriter(conn, q.coding)
	if q.announce != "" {
		if err := attr.Expect(r, q.announce); err != nil {
			return err
		}
		fmt.Fprintf(b, "S: %s\n", q.announce)
	}
	for _, request := range requests {
		fmt.Fprintf(b, "C: %s\n", request)
		for a := range strings.SplitSeq(strings.ReplaceAll(request, "TAG", tag), "|") {
			name, value, _ := strings.Cut(a, "=")
			out.Str(name, strings.ReplaceAll(value, `\n`, "\n"))
		}
		if err := out.Send(); err != nil {
			return err
		}
		list, err := r.List()
		if err == io.EOF {
			b.WriteString("S: (closed)\n")
			return nil
		}
		if err != nil {
			return err
		}
		b.WriteString("S:")
		for _, a := range list {
			fmt.Fprintf(b, " %s=%q", a.Name, q.shown(a))
		}
		b.WriteString("\n")
	}
	return nil
}

// implementation are the flags of an opened table that say how it is built;
// the others in proxymap's answer depend on who used the table before.
const implementation = 16 | 32 | 262144

func (q inquiry) shown(a attr.Attr) string {
	if flags, err := attr.ParseInt(a.Value); err == nil && q.announce == "proxymap_protocol" && a.Name == "flags" {
		return attr.FormatInt(flags & implementation)
	}
	return a.Value
}

// port is an endpoint of the machine; none for 0.
func port(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("127.0.0.1:%d", n)
}

var inquiries = map[string]inquiry{
	"anvil": {unix: "private/anvil", inet: port(2601), coding: attr.Plain, announce: "anvil_protocol", requests: []string{
		"request=connect|ident=battery:192.0.2.7", "request=message|ident=battery:192.0.2.7", "request=recipient|ident=battery:192.0.2.7",
		"request=newtls|ident=battery:192.0.2.7", "request=newtls_status|ident=battery:192.0.2.7", "request=auth|ident=battery:192.0.2.7",
		"request=lookup|ident=battery:192.0.2.7", "request=disconnect|ident=battery:192.0.2.7", "request=lookup|ident=battery:192.0.2.7", "request=lookup|ident=none", "request=frob|ident=x"}},
	"dnsblog": {unix: "private/dnsblog", inet: port(2602), one: true, requests: []string{
		"rbl_domain=bl.test|client_address=127.0.0.1|label=7", "rbl_domain=bl.test|client_address=192.0.2.2|label=8", "rbl_domain=clean.test|client_address=127.0.0.1|label=9", "rbl_domain=bl.test|client_address=2001:db8::1|label=10"}},
	"rewrite": {unix: "private/rewrite", inet: port(2603), announce: "trivial_rewrite_protocol", requests: []string{
		"request=rewrite|rule=local|address=user", "request=rewrite|rule=remote|address=user", "request=rewrite|rule=local|address=user%a.test@mail",
		"request=resolve|sender=|address=alice@mail.example.com", "request=resolve|sender=|address=u1@sink.test", "request=resolve|sender=|address=x@err.test",
		"request=resolve|sender=|address=anna@virtual.test", "request=resolve|sender=|address=carol@vbox.test", "request=resolve|sender=|address=a@etrn.test",
		"request=resolve|sender=|address=u@[bad]", "request=verify|sender=|address=x@proxied.test"}},
	"proxymap": {unix: "private/proxymap", announce: "proxymap_protocol", requests: []string{
		"request=open|table=hash:/etc/postfix/valias|flags=0", "request=lookup|table=hash:/etc/postfix/valias|flags=64|key=dora@pvirtual.test",
		"request=lookup|table=hash:/etc/postfix/valias|flags=64|key=none", "request=sequence|table=hash:/etc/postfix/valias|flags=64|function=0",
		"request=open|table=hash:/etc/none|flags=0", "request=update|table=hash:/etc/postfix/valias|flags=64|key=a|value=b", "request=lookup|table=unix:passwd.byname|flags=16448|key=alice", "request=frob"}},
	"proxywrite": {unix: "private/proxywrite", announce: "proxymap_protocol", requests: []string{
		"request=open|table=btree:/var/lib/postfix/battery|flags=128", "request=lookup|table=btree:/var/lib/postfix/battery|flags=128|key=k",
		"request=update|table=btree:/var/lib/postfix/battery|flags=128|key=k|value=v", "request=lookup|table=btree:/var/lib/postfix/battery|flags=128|key=k",
		"request=sequence|table=btree:/var/lib/postfix/battery|flags=128|function=0", "request=delete|table=btree:/var/lib/postfix/battery|flags=128|key=k",
		"request=lookup|table=btree:/var/lib/postfix/battery|flags=128|key=k", "request=update|table=btree:/etc/postfix/other|flags=128|key=k|value=v"}},
	"verify": {unix: "private/verify", inet: port(2606), announce: "address_verification_prrotocol", requests: []string{
		"request=update|address=q8@sink.test|recipient_status=0|reason=250 ok", "request=query|address=q8@sink.test",
		"request=update|address=q9@sink.test|recipient_status=2|reason=550 no", "request=query|address=q9@sink.test",
		"request=update|address=q8@sink.test|recipient_status=2|reason=550 no", "request=query|address=q8@sink.test", "request=update|address=q8@sink.test|recipient_status=9|reason=x", "request=frob"}},
	"flush": {unix: "public/flush", inet: port(2607), announce: "queue_flush_protocol", one: true, requests: []string{
		"request=add|site=elsewhere.test|queue_id=78B7C9B2A15", "request=add|site=raw.etrn.test|queue_id=78B7C9B2A15", "request=send_site|site=elsewhere.test", "request=send_site|site=raw.etrn.test",
		"request=send_file|queue_id=78B7C9B2A15", "request=send_file|queue_id=../x", "request=frob"}},
	"bounce": {unix: "private/bounce", announce: "delivery_status_protocol", one: true, requests: []string{
		"nrequest=9|flags=0", "nrequest=1|flags=0|queue_name=active|queue_id=../x|encoding=|smtputf8=0|sender=|envelope_id=|ret_flags=0",
		"nrequest=3|flags=0|queue_name=active|queue_id=78B7C9B2A15|encoding=|smtputf8=0|sender=a@b|envelope_id=|ret_flags=0|verp_delimiters=+"}},
	"scache": {unix: "private/scache", inet: port(2610), announce: "connection_cache_protocol", requests: []string{
		`request=find_endp|label=none\n`, `request=find_dest|label=smtp\nnone\n`, `request=save_dest|ttl=2|label=smtp\nd\n|property=p|label=smtp\ne\n`, `request=find_dest|label=smtp\nd\n`}},
}

// agents are the delivery agents: name of the socket, inet port.
var agents = []struct {
	name, program string
	port          int
}{{"discard", "discard", 2612}, {"error", "error", 0}, {"smtp", "smtp", 2614}, {"local", "local", 2616}, {"virtual", "virtual", 2619}, {"lmtp", "lmtp", 2620}, {"filter", "pipe", 2621}}

// missing is a delivery request for a message that is not there: the answer is
// an empty status and -1.
func missing(name string, n int) inquiry {
	return inquiry{unix: "private/" + name, inet: port(n), announce: "delivery_request_protocol", one: true, requests: []string{
		"flags=3|queue_name=active|queue_id=78B7C9B2A15|offset=300|size=10|nexthop=x.test|encoding=|smtputf8=0|sender=a@b.test|envelope_id=|ret_flags=0|time=" + strings.Repeat("A", 118) +
			"==|log_client_name=|log_client_address=|log_client_port=|log_protocol_name=|log_helo_name=|sasl_method=|sasl_username=|sasl_sender=|log_ident=78B7C9B2A15|rewrite_context=local|recipient_count=0"}}
}

// listing reads showq's list over both sockets: what is in the queue depends
// on the moment, that it ends as it must does not.
func listing(w *world.World, _ string) (string, error) {
	var b strings.Builder
	for _, address := range []string{"unix:public/showq", port(2608)} {
		conn, err := dial(w, address)
		if err != nil {
			return b.String(), err
		}
		data, err := io.ReadAll(conn)
		conn.Close()
		if err != nil {
			return b.String(), err
		}
		begin := bytes.HasPrefix(data, []byte("protocol\x00mail_queue_list_protocol\x00\x00"))
		fmt.Fprintf(&b, "announced: %v, ended: %v\n", begin, bytes.HasSuffix(data, []byte("\x00\x00")))
	}
	return b.String(), nil
}

// submission hands messages to cleanup over both sockets.
func submission(w *world.World, tag string) (string, error) {
	var b strings.Builder
	for i, address := range []string{"unix:public/cleanup", port(2605)} {
		conn, err := dial(w, address)
		if err != nil {
			return b.String(), err
		}
		defer conn.Close()
		r, out := attr.NewReader(conn, attr.Null, address), attr.NewWriter(conn, attr.Null)
		if _, err := r.List(); err != nil {
			return b.String(), err
		}
		if err := out.Int("flags", 178).Send(); err != nil {
			return b.String(), err
		}
		var rec bytes.Buffer
		for _, f := range []string{fmt.Sprintf("T%d 123456", time.Now().Unix()), "Arewrite_context=local", "Sa@sender.test", "Ralice@mail.example.com", "M",
			"NReceived: by the battery", "NMessage-ID: <" + tag + "@battery.test>", fmt.Sprintf("NSubject: by hand %d", i), "N", "Nhello", "X", "E"} {
			rec.WriteByte(f[0])
			rec.WriteByte(byte(len(f) - 1)) // all are shorter than 128 bytes
			rec.WriteString(f[1:])
		}
		if _, err := conn.Write(rec.Bytes()); err != nil {
			return b.String(), err
		}
		list, err := r.List()
		if err != nil {
			return b.String(), err
		}
		fmt.Fprintf(&b, "%v\n", list)
	}
	return b.String(), nil
}
