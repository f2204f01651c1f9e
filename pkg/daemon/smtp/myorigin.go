package smtp

import (
	"context"
	"strings"
)

// isMyOrigin tells for which domains the generic maps are searched for a bare
// local part.
func (r *request) isMyOrigin(_ context.Context, domain string) (bool, error) {
	if strings.EqualFold(domain, r.d.myorigin) {
		return true, nil
	}
	return r.d.tables.myDomain(r.ctx, domain)
}
