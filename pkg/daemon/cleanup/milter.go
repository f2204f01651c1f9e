package cleanup

import (
	"strconv"
	"strings"

	proto "posthaste/pkg/ipc/cleanup"
)

// This build has no Milter client. Where a message would go through a Milter,
// it gets what milter_default_action says for one that cannot be connected to,
// so that content never passes a filter by accident (routing.md §1.14 is the
// place to fill in).

// handover handles the m record, with which smtpd announces its Milters. A
// count of 0 is a placeholder or says that there are none.
func (s *session) handover(data []byte) {
	n, err := strconv.Atoi(string(data))
	if err != nil || n < 0 {
		s.bad("bad milter count record: %.100s", data)
		return
	}
	s.miltersSent = true
	if s.milters = n; n == 0 {
		return
	}
	// The Milters' state follows on the stream, in another encoding. The
	// client waits for an answer before it goes on, so it gets the final one.
	s.warn("milters handed over by the client are not supported by this version -- message not accepted, try again later")
	s.status |= proto.StatusDefer
	s.setReason("4.7.1 Service unavailable - try again later")
	s.hangUp = true
}

// milterActions are the values of milter_default_action.
var milterActions = [...]struct {
	name   string
	flags  proto.Flags
	status proto.Status
	reason string
}{
	{"accept", 0, 0, ""},
	{"quarantine", proto.FlagHold, 0, ""},
	{"reject", 0, proto.StatusContent, "5.5.0 Service unavailable"},
	{"tempfail", 0, proto.StatusDefer, "4.7.1 Service unavailable - try again later"},
}

// noMilters stands in for non_smtpd_milters.
func (s *session) noMilters() {
	if !s.going() || s.flags&proto.FlagMilter == 0 || s.miltersSent || s.d.set.milters == "" {
		return
	}
	s.warn("non_smtpd_milters is not supported by this version; applying milter_default_action = %s", s.d.set.milterAction)
	for _, a := range milterActions {
		if strings.EqualFold(a.name, s.d.set.milterAction) || a.name == "tempfail" {
			s.flags |= a.flags
			if s.status |= a.status; a.status != 0 {
				s.setReason(a.reason)
			}
			return
		}
	}
}
