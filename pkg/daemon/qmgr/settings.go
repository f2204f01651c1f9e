package qmgr

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/daemon/qmgr/sched"

	"posthaste/pkg/message/address"
	"posthaste/pkg/sys/maillog"
)

// retryService is the transport that defers: a fixed name.
const retryService = "retry"

// Numbers that are no parameters.
const (
	maxReaders    = 32                 // messages being activated or read further at once
	maxFinishers  = 64                 // messages whose notices are being sent at once
	maxPending    = 16                 // agent connections of a transport waiting for a greeting
	maxBatch      = 5000               // recipients read in one go
	enoughFor     = 3                  // requests for each agent process that wait when deferred mail is paced
	pace          = time.Millisecond   // between files from deferred then
	noticeTimeout = 1000 * time.Second // for bounce, defer and trace requests (§4.7)
	clockSlack    = time.Minute        // by which a file's time may be off
	lockedDelay   = time.Minute        // until a message that is still being delivered is looked at again
)

// settings are the parameters of main.cf, typed.
type settings struct {
	myhostname      string
	activeLimit     int
	rcptLimit       int
	rcptMinimum     int
	fudge           int // qmgr_fudge_factor, percent; for oqmgr
	firstBatch      int // recipients read when a message is activated, at most
	minimalBackoff  time.Duration
	maximalBackoff  time.Duration
	queueLifetime   time.Duration
	bounceLifetime  time.Duration
	runDelay        time.Duration
	transportRetry  time.Duration
	daemonTimeout   time.Duration
	ipcTimeout      time.Duration
	inFlowDelay     time.Duration
	clogWarn        time.Duration
	processLimit    int
	probeLimit      int
	feedbackDebug   bool
	confirmCleared  bool
	disableVERP     bool
	utf8            bool
	internalLog     bool // info_log_address_format = internal
	delayResolution int
	senderDependent bool // what the resolver says depends on the sender
	deferTransports []string
	filterNexthop   string
	doubleBounce    string
	verpFilter      string
	errorService    string
	ext             address.Extensions
}

func load(c *conf.Config, log *maillog.Logger) *settings {
	s := &settings{
		myhostname:      c.String("myhostname"),
		activeLimit:     c.Int("qmgr_message_active_limit"),
		rcptLimit:       c.Int("qmgr_message_recipient_limit"),
		rcptMinimum:     c.Int("qmgr_message_recipient_minimum"),
		fudge:           c.Int("qmgr_fudge_factor"),
		firstBatch:      maxBatch,
		minimalBackoff:  c.Duration("minimal_backoff_time"),
		maximalBackoff:  c.Duration("maximal_backoff_time"),
		queueLifetime:   c.Duration("maximal_queue_lifetime"),
		bounceLifetime:  c.Duration("bounce_queue_lifetime"),
		runDelay:        c.Duration("queue_run_delay"),
		transportRetry:  c.Duration("transport_retry_time"),
		daemonTimeout:   c.Duration("daemon_timeout"),
		ipcTimeout:      c.Duration("qmgr_ipc_timeout"),
		inFlowDelay:     c.Duration("in_flow_delay"),
		processLimit:    c.Int("default_process_limit"),
		probeLimit:      c.Int("address_verify_pending_request_limit"),
		feedbackDebug:   c.Bool("destination_concurrency_feedback_debug"),
		confirmCleared:  c.Bool("confirm_delay_cleared"),
		disableVERP:     c.Bool("disable_verp_bounces"),
		utf8:            c.Bool("smtputf8_enable"),
		internalLog:     c.String("info_log_address_format") == "internal",
		delayResolution: c.Int("delay_logging_resolution_limit"),
		deferTransports: c.List("defer_transports"),
		filterNexthop:   c.String("default_filter_nexthop"),
		doubleBounce:    c.String("double_bounce_sender"),
		verpFilter:      c.String("verp_delimiter_filter"),
		errorService:    c.String("error_service_name"),
	}
	for _, name := range []string{"sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps",
		"address_verify_sender_dependent_relayhost_maps", "address_verify_sender_dependent_default_transport_maps"} {
		s.senderDependent = s.senderDependent || c.String(name) != ""
	}
	s.ext = address.Extensions{Delimiters: c.String("recipient_delimiter"), DoubleBounce: s.doubleBounce, OwnerRequest: c.Bool("owner_request_special")}
	if c.Bool("helpful_warnings") {
		s.clogWarn = c.Duration("qmgr_clog_warn_time")
	}
	if s.rcptLimit < s.activeLimit {
		log.Warn("%s is smaller than %s - adjusting %s", "qmgr_message_recipient_limit", "qmgr_message_active_limit", "qmgr_message_recipient_limit")
		s.rcptLimit = s.activeLimit
	}
	if s.bounceLifetime > s.queueLifetime {
		log.Warn("%s is larger than %s - adjusting %s", "bounce_queue_lifetime", "maximal_queue_lifetime", "bounce_queue_lifetime")
		s.bounceLifetime = s.queueLifetime
	}
	return s
}

// lifetime is how long mail of that sender stays in the queue.
func (s *settings) lifetime(sender string) time.Duration {
	if sender == "" {
		return s.bounceLifetime
	}
	return s.queueLifetime
}

func (s *settings) defers(transport string) bool {
	return slices.Contains(s.deferTransports, transport)
}

// transports finds out the parameters of each transport, once, for any goroutine.
type transports struct {
	conf *conf.Config
	log  *maillog.Logger
	old  bool // oqmgr: no preemption, no recipient slots

	mu    sync.Mutex
	known map[string]sched.TransportConfig
}

func (t *transports) get(name string) sched.TransportConfig {
	t.mu.Lock()
	defer t.mu.Unlock()
	cfg, ok := t.known[name]
	if !ok {
		cfg = t.read(name)
		t.known[name] = cfg
	}
	return cfg
}

func (t *transports) read(name string) sched.TransportConfig {
	number := func(suffix string) int { return t.conf.TransportInt(name, suffix) }
	span := func(suffix string) time.Duration { return t.conf.TransportDuration(name, suffix) }
	feedback := func(suffix string) sched.Feedback {
		param := name + "_" + suffix
		if _, own := t.conf.Explicit(param); !own {
			param = "default_" + suffix
		}
		f, err := sched.ParseFeedback(param, t.conf.TransportString(name, suffix))
		if err != nil {
			t.log.Warn("%v", err)
		}
		return f
	}
	cfg := sched.TransportConfig{
		ConcurrencyLimit:     number("destination_concurrency_limit"),
		RecipientLimit:       number("destination_recipient_limit"),
		InitialConcurrency:   t.initial(name),
		TransportRateDelay:   span("transport_rate_delay"),
		DestinationRateDelay: span("destination_rate_delay"),
		Positive:             feedback("destination_concurrency_positive_feedback"),
		Negative:             feedback("destination_concurrency_negative_feedback"),
		FailedCohortLimit:    float64(number("destination_concurrency_failed_cohort_limit")),
		SlotCost:             number("delivery_slot_cost"),
		SlotLoan:             number("delivery_slot_loan"),
		SlotDiscount:         number("delivery_slot_discount"),
		MinimumSlots:         number("minimum_delivery_slots"),
		RecipientPool:        number("recipient_limit"),
		ExtraRecipients:      number("extra_recipient_limit"),
		RefillLimit:          number("recipient_refill_limit"),
		RefillDelay:          span("recipient_refill_delay"),
	}
	if t.old {
		cfg.SlotCost, cfg.RecipientPool, cfg.ExtraRecipients = 0, 0, 0
	}
	return cfg
}

// initial is NAME_initial_destination_concurrency; its default lacks the usual prefix.
func (t *transports) initial(name string) int {
	const suffix = "initial_destination_concurrency"
	if text, ok := t.conf.Explicit(name + "_" + suffix); ok {
		if text, err := t.conf.Expand(text); err == nil {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				return n
			}
		}
		t.log.Warn("%s_%s: ignoring bad numerical value: %s", name, suffix, text)
	}
	return t.conf.Int(suffix)
}
