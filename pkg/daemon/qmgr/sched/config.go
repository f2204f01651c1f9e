package sched

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Config is what all transports share. The names in the comments are main.cf
// parameters.
type Config struct {
	MessageActiveLimit      int           // qmgr_message_active_limit; only for the warning about one destination
	MessageRecipientLimit   int           // qmgr_message_recipient_limit; also bounds the number of destinations
	MessageRecipientMinimum int           // qmgr_message_recipient_minimum: recipients any message may have in memory
	MinimalBackoff          time.Duration // minimal_backoff_time: how long a dead destination rests
	TransportRetry          time.Duration // transport_retry_time: how long a dead transport rests
	ClogWarn                time.Duration // qmgr_clog_warn_time; 0 = never warn
	FeedbackDebug           bool          // destination_concurrency_feedback_debug
	MaxPending              int           // agent connections of a transport that may wait for their greeting; 0 = 2
	ErrorService            string        // error_service_name; no feedback logging for it
	RetryService            string        // the transport that defers ("retry")
	RoundRobin              bool          // oqmgr: no job list, the destinations of a transport take turns

	Transport func(name string) TransportConfig // asked once for each transport
	Now       func() time.Time                  // nil = time.Now
	Info      func(format string, args ...any)  // feedback debugging; nil = discard
	Warn      func(format string, args ...any)  // nil = discard
}

// maxBatch bounds the recipients read from a file in one go (§4.6).
const maxBatch = 5000

// TransportConfig holds one transport's limits (the table of §4.4).
type TransportConfig struct {
	ConcurrencyLimit     int // 0 = none
	RecipientLimit       int // recipients of one request; 0 = no limit
	InitialConcurrency   int
	TransportRateDelay   time.Duration
	DestinationRateDelay time.Duration
	Positive, Negative   Feedback
	FailedCohortLimit    float64
	SlotCost             int
	SlotLoan             int
	SlotDiscount         int // percent
	MinimumSlots         int
	RecipientPool        int // NAME_recipient_limit
	ExtraRecipients      int // NAME_extra_recipient_limit
	RefillLimit          int
	RefillDelay          time.Duration
}

// normal gives the configuration with the dependent values of §4.4 applied.
func (c TransportConfig) normal() TransportConfig {
	if c.DestinationRateDelay > 0 {
		c.ConcurrencyLimit = 1
	}
	if c.InitialConcurrency < 1 {
		c.InitialConcurrency = 1
	}
	if c.ConcurrencyLimit != 0 && c.InitialConcurrency > c.ConcurrencyLimit {
		c.InitialConcurrency = c.ConcurrencyLimit
	}
	return c
}

// Feedback is a value of *_destination_concurrency_positive_feedback or
// _negative_feedback: a number between 0 and 1, constant or divided by the window.
type Feedback struct {
	Base           float64
	PerConcurrency bool
	Param          string // parameter name, for logging
}

// ParseFeedback reads "1", "0.25", "1/10", "1/concurrency". An error means the
// value is malformed or not between 0 and 1; the result is then the default, 1.
func ParseFeedback(param, text string) (Feedback, error) {
	f := Feedback{Base: 1, Param: param}
	bad := func() (Feedback, error) {
		return Feedback{Base: 1, Param: param}, fmt.Errorf("%s: ignoring malformed or unreasonable feedback: %.100s", param, text)
	}
	num, denom, ratio := strings.Cut(text, "/")
	v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err != nil {
		return bad()
	}
	f.Base = v
	if denom = strings.TrimSpace(denom); ratio && strings.EqualFold(denom, "concurrency") {
		f.PerConcurrency = true
	} else if ratio {
		d, err := strconv.ParseFloat(denom, 64)
		if err != nil || d == 0 {
			return bad()
		}
		f.Base /= d
	}
	if !(f.Base >= 0 && f.Base <= 1) {
		return bad()
	}
	return f, nil
}

// at is the feedback for a destination with the given window.
func (f Feedback) at(window int) float64 {
	if f.PerConcurrency {
		return f.Base / float64(window)
	}
	return f.Base
}

// kind is the number that the debug log shows for the type of feedback.
func (f Feedback) kind() int {
	if f.PerConcurrency {
		return 1
	}
	return 0
}
