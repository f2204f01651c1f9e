package deliver

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// StatsSize is the length of the encoded time stamps on LP64 machines.
const StatsSize = 88

// Stats are the times of one delivery; a zero time is "not known". Incoming and
// Active come from the queue manager, the others from the agent
// (ipc.md §2.5).
type Stats struct {
	Incoming  time.Time // message arrival
	Active    time.Time // entered the active queue
	Handoff   time.Time // the first agent had the request
	ConnSetup time.Time // connection and handshake done
	Done      time.Time // delivery done; zero is "now"
	Reuse     int       // how often the connection was used before
}

func (s *Stats) stamps() [5]*time.Time {
	return [5]*time.Time{&s.Incoming, &s.Active, &s.Handoff, &s.ConnSetup, &s.Done}
}

// Encode returns the raw structure that travels in attribute "time":
// microsecond precision, native byte order (little-endian).
func (s *Stats) Encode() []byte {
	b := make([]byte, 0, StatsSize)
	for _, t := range s.stamps() {
		var sec, usec int64
		if !t.IsZero() {
			sec, usec = t.Unix(), int64(t.Nanosecond()/1000)
		}
		b = binary.NativeEndian.AppendUint64(b, uint64(sec))
		b = binary.NativeEndian.AppendUint64(b, uint64(usec))
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(int32(s.Reuse)))
	return append(b, 0, 0, 0, 0)
}

// Decode reads what Encode wrote.
func (s *Stats) Decode(b []byte) error {
	if len(b) != StatsSize {
		return fmt.Errorf("msg_stats_scan: size mis-match: %d != %d", len(b), StatsSize)
	}
	for i, t := range s.stamps() {
		sec := int64(binary.NativeEndian.Uint64(b[16*i:]))
		usec := int64(binary.NativeEndian.Uint64(b[16*i+8:]))
		*t = time.Time{}
		if sec != 0 || usec != 0 {
			*t = time.Unix(sec, usec%1_000_000*1000)
		}
	}
	s.Reuse = int(int32(binary.NativeEndian.Uint32(b[80:])))
	return nil
}

// Delays formats the times of a log line: total is delay=, parts is delays=
// "a/b/c/d" (delivery.md §1.1). resolution is delay_logging_resolution_limit.
func (s *Stats) Delays(now time.Time, resolution int) (total, parts string) {
	done := s.Done
	if done.IsZero() {
		done = now
	}
	var a, b, c, d time.Duration
	switch {
	case s.Active.IsZero():
		a = done.Sub(s.Incoming)
	case s.Handoff.IsZero():
		a, b = s.Active.Sub(s.Incoming), done.Sub(s.Active)
	case s.ConnSetup.IsZero():
		a, b, d = s.Active.Sub(s.Incoming), s.Handoff.Sub(s.Active), done.Sub(s.Handoff)
	default:
		a, b = s.Active.Sub(s.Incoming), s.Handoff.Sub(s.Active)
		c, d = s.ConnSetup.Sub(s.Handoff), done.Sub(s.ConnSetup)
	}
	words := make([]string, 0, 4)
	for _, v := range []time.Duration{a, b, c, d} {
		words = append(words, FormatDelay(v, resolution))
	}
	return FormatDelay(done.Sub(s.Incoming), resolution), strings.Join(words, "/")
}

// FormatDelay formats a delay as log lines have it: whole seconds from 10 s on,
// one decimal from 1 s on, below that at most two significant digits and at
// most resolution (0..6) decimals.
func FormatDelay(d time.Duration, resolution int) string {
	if d <= 0 {
		return "0"
	}
	const second = 1_000_000
	usec := d.Microseconds()
	unit, decimals := int64(second), 0
	switch {
	case resolution <= 0 || usec >= 10*second:
	case usec >= second:
		unit, decimals = second/10, 1
	default:
		decimals = min(resolution, 6)
		for range decimals {
			unit /= 10
		}
		for usec >= 100*unit {
			unit *= 10
			decimals--
		}
	}
	usec = (usec + unit/2) / unit * unit
	text := strconv.FormatInt(usec/second, 10)
	if decimals > 0 {
		fraction := fmt.Sprintf("%06d", usec%second)[:decimals]
		if fraction = strings.TrimRight(fraction, "0"); fraction != "" {
			text += "." + fraction
		}
	}
	return text
}
