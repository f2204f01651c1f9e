package sched

// warnClog tells when one destination fills the active queue (spec routing.md
// §4.7, end).
func (s *Scheduler) warnClog(q *Queue) {
	active := q.waiting + q.busy
	limit := s.cfg.MessageActiveLimit
	if s.cfg.ClogWarn <= 0 || active*5 <= limit {
		return
	}
	now := s.cfg.Now()
	if !q.clogged.IsZero() && now.Sub(q.clogged) < s.cfg.ClogWarn {
		return
	}
	q.clogged = now
	warn, t := s.cfg.Warn, q.t
	warn("mail for %s is using up %d of %d active queue entries", q.Nexthop, active, s.messages)
	share := float64(active) / float64(max(s.messages, 1))
	if share < 0.9 {
		warn("this may slow down other mail deliveries")
	}
	switch {
	case t.Config.ConcurrencyLimit > 0 && q.window >= t.Config.ConcurrencyLimit:
		warn("you may need to increase the main.cf %s_destination_concurrency_limit from %d", t.Name, t.Config.ConcurrencyLimit)
	case float64(q.window) > float64(limit)*share:
		warn("you may need to increase the main.cf qmgr_message_active_limit from %d", limit)
	case len(t.queues) > 1:
		warn("you may need a separate master.cf transport for %s", q.Nexthop)
	default:
		warn("you may need to reduce %s connect and helo timeouts", t.Name)
		warn("so that Postfix quickly skips unavailable hosts")
		warn("you may need to increase the main.cf minimal_backoff_time and maximal_backoff_time")
		warn("so that Postfix wastes less time on undeliverable mail")
		warn("you may need to increase the master.cf %s process limit", t.Name)
	}
	warn("please avoid flushing the whole queue when you have")
	warn("lots of deferred mail, that is bad for performance")
	warn("to turn off these warnings specify: qmgr_clog_warn_time = 0")
}
