package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/miekg/dns"
)

// ask asks one server, over TCP when the answer does not fit.
func ask(ctx context.Context, q *dns.Msg, server string, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := askOver(ctx, "udp", q, server)
	if msg != nil && msg.Truncated && ctx.Err() == nil {
		msg, err = askOver(ctx, "tcp", q, server)
	}
	return msg, err
}

// askOver sends one question and waits for its answer until the end of ctx,
// which has a deadline. A message that comes with an error holds only what could
// be read of it.
func askOver(ctx context.Context, network string, q *dns.Msg, server string) (*dns.Msg, error) {
	conn, err := (&dns.Client{Net: network, UDPSize: udpSize, Timeout: maxTimeout}).DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		raw, err := conn.ReadMsgHeader(nil)
		if err != nil {
			return nil, err
		}
		if binary.BigEndian.Uint16(raw) == q.Id {
			return unpack(raw)
		} // else it is the answer to something else
	}
}

const headerSize = 12 // octets of a message before its question

var (
	errShort = errors.New("the answer has fewer records than it says")
	errLong  = errors.New("a record is longer than the answer")
)

// unpack reads a message. The library refuses a message for one TLSA record
// without its three numbers, but it is only that record which is of no use:
// it is left as octets, a *dns.RFC3597. Nor does the library mind an answer that
// ends early: what is missing must not be taken for something that does not
// exist.
func unpack(raw []byte) (*dns.Msg, error) {
	msg := new(dns.Msg)
	short, err := hideShortTLSA(raw)
	if err == nil {
		err = msg.Unpack(raw)
	} else {
		_ = msg.Unpack(raw[:headerSize])
	}
	if err == nil && len(msg.Answer) != int(binary.BigEndian.Uint16(raw[6:])) {
		err = errShort
	}
	if err == nil {
		for _, i := range short {
			msg.Answer[i].Header().Rrtype = dns.TypeTLSA
		}
	}
	return msg, err
}

// hiddenType is reserved (RFC 6895 §3.1): the library reads it as octets.
const hiddenType = 0xffff

// hideShortTLSA gives the TLSA records of the answer that are too short another
// type; it returns their places in the answer.
func hideShortTLSA(raw []byte) (short []int, err error) {
	const fixed = 10 // octets of a record between its name and its data
	questions, answers := int(binary.BigEndian.Uint16(raw[4:])), int(binary.BigEndian.Uint16(raw[6:]))
	off := headerSize
	for i := range questions + answers {
		if off == len(raw) {
			break
		}
		if _, off, err = dns.UnpackDomainName(raw, off); err != nil {
			return nil, err
		}
		if i < questions {
			off += 4
			continue
		}
		if off+fixed > len(raw) {
			return nil, errLong
		}
		kind, length := raw[off:off+2], int(binary.BigEndian.Uint16(raw[off+8:]))
		if binary.BigEndian.Uint16(kind) == dns.TypeTLSA && length < tlsaNumbers {
			binary.BigEndian.PutUint16(kind, hiddenType)
			short = append(short, i-questions)
		}
		off += fixed + length
	}
	return short, nil
}
