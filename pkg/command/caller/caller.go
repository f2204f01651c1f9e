// Package caller is about the user who runs a command: whether a list of users
// permits it, and what of the environment a set-gid program keeps (spec
// queue.md §4.2, §8).
package caller

import (
	"context"
	"fmt"
	"os"
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

// Allowed tells whether the list of users in a parameter (authorized_…_users)
// permits a user. A list that starts with "static:" permits all.
func Allowed(ctx context.Context, c *conf.Config, log *maillog.Logger, parameter string, uid int) (bool, error) {
	users := c.String(parameter)
	if strings.HasPrefix(users, "static:") {
		return true, nil
	}
	list, err := table.NewMatchList(table.Env{Config: c, Log: log, Strict: true}, parameter, users, table.MatchString, 0)
	if err != nil {
		return false, err
	}
	defer list.Close()
	ok, err := list.Match(ctx, Name(uid))
	if err != nil {
		return false, fmt.Errorf("%s: %w", parameter, err)
	}
	return ok, nil
}

// ReduceEnvironment leaves what a list such as import_environment names: names
// that are kept, and name=value.
func ReduceEnvironment(list []string) {
	kept := Environment(list, os.LookupEnv)
	os.Clearenv()
	for _, entry := range kept {
		name, value, _ := strings.Cut(entry, "=")
		os.Setenv(name, value)
	}
}

// Environment makes an environment from such a list.
func Environment(list []string, lookup func(name string) (string, bool)) []string {
	var env []string
	for _, entry := range list {
		name, value, set := strings.Cut(strings.Trim(entry, "{} \t"), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !set {
			if value, set = lookup(name); !set {
				continue
			}
		}
		env = append(env, name+"="+value)
	}
	return env
}
