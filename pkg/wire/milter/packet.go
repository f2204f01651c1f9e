package milter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Commands of the mail server, and its negotiation packet.
const (
	cmdAbort        = 'A'
	cmdBody         = 'B'
	cmdConnect      = 'C'
	cmdMacro        = 'D'
	cmdEndOfMessage = 'E'
	cmdHelo         = 'H'
	cmdHeader       = 'L'
	cmdMail         = 'M'
	cmdEndOfHeaders = 'N'
	cmdNegotiate    = 'O'
	cmdQuit         = 'Q'
	cmdRcpt         = 'R'
	cmdData         = 'T'
	cmdUnknown      = 'U'
)

// Replies of filters.
const (
	replyAccept       = 'a'
	replyContinue     = 'c'
	replyDiscard      = 'd'
	replyTempfail     = 't'
	replyReject       = 'r'
	replyText         = 'y'
	replyShutdown     = '4'
	replyProgress     = 'p'
	replySkip         = 's'
	replyQuarantine   = 'q'
	replyAddHeader    = 'h'
	replyInsertHeader = 'i'
	replyChangeHeader = 'm'
	replyAddRcpt      = '+'
	replyAddRcptParam = '2'
	replyDelRcpt      = '-'
	replyChangeFrom   = 'e'
	replyBody         = 'b'
)

// Events that a filter can do without, or without answering, as negotiated.
const (
	noConnect uint32 = 1 << iota
	noHelo
	noMail
	noRcpt
	noBody
	noHeaders
	noEndOfHeaders
	silentHeader
	noUnknown
	noData
	canSkip
	wantRejected
	silentConnect
	silentHelo
	silentMail
	silentRcpt
	silentData
	silentUnknown
	silentEndOfHeaders
	silentBody
	leadingSpace
)

// allActions are all changes that a filter may ask for.
const allActions uint32 = 0x1ff

// versions are the events that a protocol version knows.
var versions = map[int]uint32{2: 0x7f, 3: 0x17f, 4: 0x37f, 6: 0x1fffff}

// oddVersion is one that a filter may name, but not milter_protocol.
const oddVersion = 5

// event is one of the mail server's reports.
type event struct {
	name    string // in warnings
	command byte
	stage   Stage
	without uint32 // the filter does not want it
	silent  uint32 // the filter does not answer it
	content bool
	end     bool // the filter may ask for changes
}

var (
	eventConnect      = event{name: "SMFIC_CONNECT", command: cmdConnect, stage: StageConnect, without: noConnect, silent: silentConnect}
	eventHelo         = event{name: "SMFIC_HELO", command: cmdHelo, stage: StageHelo, without: noHelo, silent: silentHelo}
	eventMail         = event{name: "SMFIC_MAIL", command: cmdMail, stage: StageMail, without: noMail, silent: silentMail}
	eventRcpt         = event{name: "SMFIC_RCPT", command: cmdRcpt, stage: StageRcpt, without: noRcpt, silent: silentRcpt}
	eventData         = event{name: "SMFIC_DATA", command: cmdData, stage: StageData, without: noData, silent: silentData}
	eventUnknown      = event{name: "SMFIC_UNKNOWN", command: cmdUnknown, stage: StageUnknown, without: noUnknown, silent: silentUnknown}
	eventHeader       = event{name: "SMFIC_HEADER", command: cmdHeader, stage: StageEndOfHeader, without: noHeaders, silent: silentHeader, content: true}
	eventEndOfHeaders = event{name: "SMFIC_EOH", command: cmdEndOfHeaders, stage: StageEndOfHeader, without: noEndOfHeaders, silent: silentEndOfHeaders, content: true}
	eventBody         = event{name: "SMFIC_BODY", command: cmdBody, stage: StageEndOfMessage, without: noBody, silent: silentBody, content: true}
	eventEndOfMessage = event{name: "SMFIC_BODYEOB", command: cmdEndOfMessage, stage: StageEndOfMessage, content: true, end: true}
)

// packet is a filter's reply, or what a filter says in the negotiation.
type packet struct {
	command byte
	data    []byte
}

// errLength is matched by the errors for a packet that is empty or too long.
var errLength = errors.New("packet length")

// writePacket sends one packet. The length counts the command.
func writePacket(w *bufio.Writer, command byte, data []byte) error {
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(data)+1))
	head[4] = command
	w.Write(head[:])
	_, err := w.Write(data)
	return err
}

// readPacket takes one packet of at most MaxPacket bytes. Memory grows with
// what arrives, not with what the length promises.
func readPacket(r *bufio.Reader) (packet, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return packet{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	switch {
	case n == 0:
		return packet{}, fmt.Errorf("bad %w: 0", errLength)
	case n > MaxPacket:
		return packet{}, fmt.Errorf("unreasonable %w: %d > %d", errLength, n, MaxPacket)
	}
	command, err := r.ReadByte()
	if err != nil {
		return packet{}, io.ErrUnexpectedEOF
	}
	p := packet{command: command}
	n--
	for n > 0 {
		part := make([]byte, min(n, 1<<16))
		got, err := io.ReadFull(r, part)
		if err != nil {
			return packet{}, io.ErrUnexpectedEOF
		}
		if p.data == nil {
			p.data = part
		} else {
			p.data = append(p.data, part...)
		}
		n -= uint32(got)
	}
	return p, nil
}

// cstrings is strings each ended by NUL; a NUL in one ends it.
func cstrings(list ...string) []byte {
	var b []byte
	for _, s := range list {
		s, _, _ = strings.Cut(s, "\x00")
		b = append(append(b, s...), 0)
	}
	return b
}

// cutString takes one string from the head of data.
func cutString(data []byte) (s string, rest []byte, ok bool) {
	for i, ch := range data {
		if ch == 0 {
			return string(data[:i]), data[i+1:], true
		}
	}
	return "", data, false
}

// cutNumber takes a number from the head of data.
func cutNumber(data []byte) (n uint32, rest []byte, ok bool) {
	if len(data) < 4 {
		return 0, data, false
	}
	return binary.BigEndian.Uint32(data), data[4:], true
}

func connectData(name, addr, port string, family Family) []byte {
	data := append(cstrings(name), byte(family))
	if family == FamilyUnknown {
		return data
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		n = 0
	}
	data = binary.BigEndian.AppendUint16(data, uint16(n))
	return append(data, cstrings(addr)...)
}
