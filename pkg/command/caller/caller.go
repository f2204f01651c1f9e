// Package caller is about the user who runs a command: who it is, and whether
// a list of users permits what he asks for (spec queue.md §4.2, §8).
package caller

import (
	"context"
	"fmt"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// Name is the login name of a user id, or "unknown".
func Name(uid int) string {
	if who, err := cred.LookupID(uid); err == nil {
		return who.Name
	}
	return "unknown"
}

// Permit returns an error unless the list of users in a parameter
// (authorized_…_users) permits a user what he asks for: "submit mail". A list
// that starts with "static:" permits all.
func Permit(ctx context.Context, c *conf.Config, log *maillog.Logger, parameter string, uid int, what string) error {
	users := c.String(parameter)
	if strings.HasPrefix(users, "static:") {
		return nil
	}
	list, err := table.NewMatchList(table.Env{Config: c, Log: log, Strict: true}, parameter, users, table.MatchString, 0)
	if err != nil {
		return err
	}
	defer list.Close()
	ok, err := list.Match(ctx, Name(uid))
	if err != nil {
		return fmt.Errorf("%s: %w", parameter, err)
	}
	if !ok {
		return fmt.Errorf("User %s(%d) is not allowed to %s", Name(uid), uid, what)
	}
	return nil
}
