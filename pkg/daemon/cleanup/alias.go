package cleanup

import (
	"strings"

	proto "posthaste/pkg/ipc/cleanup"
)

// aliasReason is what the client is told about any trouble with aliases.
const aliasReason = "4.6.0 Alias expansion error"

// expand is virtual alias expansion (routing.md §1.6). On trouble it returns
// the address unexpanded and sets the status.
func (s *session) expand(addr string) []string {
	list := []string{addr}
	set, m := s.d.set, s.d.maps.virtualAlias
	final := make(map[string]bool) // folded addresses that expand to themselves
	for i := 0; i < len(list); i++ {
		for round := 0; list[i] != "" && !final[strings.ToLower(list[i])]; round++ {
			if len(list) > set.expansionLimit {
				return s.unreasonable("map expansion size for %s", addr)
			}
			if round >= set.recursionLimit {
				return s.unreasonable("map nesting for %s", addr)
			}
			key := list[i]
			results, err := s.find(key, m, set.propagateVirtual)
			if err != nil {
				s.mapProblem(m.Title(), addr)
				s.setReason(aliasReason)
				return []string{addr}
			}
			if results == nil {
				break
			}
			for _, r := range results {
				if len(r) > set.addrLengthLimit {
					s.unreasonable("result %.300s...", r)
					return []string{addr}
				}
				if strings.EqualFold(r, key) {
					final[strings.ToLower(key)] = true
				}
			}
			list[i] = results[0]
			list = append(list, results[1:]...)
		}
	}
	if len(list) > set.expansionLimit {
		return s.unreasonable("map expansion size for %s", addr)
	}
	return list
}

func (s *session) unreasonable(format, arg string) []string {
	s.warn("unreasonable %s "+format+" -- message not accepted, try again later", s.d.maps.virtualAlias.Title(), arg)
	s.status |= proto.StatusDefer
	s.setReason(aliasReason)
	return []string{arg}
}

// setReason keeps the first reason.
func (s *session) setReason(text string) {
	if s.reason == "" {
		s.reason = text
	}
}
