package table

import (
	"context"
	"errors"
	"strings"
)

// compound is a table made of tables: pipemap and unionmap.
type compound struct {
	members []Table
	union   bool
}

func openPipemap(env Env, req Request) (Backend, error)  { return openCompound(env, req, false) }
func openUnionmap(env Env, req Request) (Backend, error) { return openCompound(env, req, true) }

func openCompound(env Env, req Request, union bool) (Backend, error) {
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	specs, err := members(req, "type:name")
	if err != nil {
		return nil, err
	}
	c := &compound{union: union}
	for _, spec := range specs {
		t, err := OpenMode(env, spec, req.Mode, req.Flags)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.members = append(c.members, t)
	}
	return c, nil
}

// Flags are those of the first member.
func (c *compound) Flags() Flags { return c.members[0].Flags() & ImplMask }

func (c *compound) Close() error {
	var all error
	for _, t := range c.members {
		all = errors.Join(all, t.Close())
	}
	return all
}

func (c *compound) Get(ctx context.Context, key string) (string, bool, error) {
	return c.GetFlags(ctx, key, 0)
}

// GetFlags passes the request flags on to the members.
func (c *compound) GetFlags(ctx context.Context, key string, flags Flags) (string, bool, error) {
	var values []string
	for _, t := range c.members {
		value, found, err := LookupFlags(ctx, t, key, flags)
		if err != nil {
			return "", false, memberError(err)
		}
		switch {
		case c.union && found:
			values = append(values, value)
		case !c.union && !found:
			return "", false, nil
		case !c.union:
			key = value
		}
	}
	if !c.union {
		return key, true, nil
	}
	return strings.Join(values, ","), len(values) > 0, nil
}

// memberError keeps what a member says about trying again.
func memberError(err error) error {
	if IsTemporary(err) {
		return RetryError(err)
	}
	return ConfigError(err)
}

// Owner is the least trusted of the members.
func (c *compound) Owner() Owner {
	result := Owner{Known: true, Trusted: true}
	for _, t := range c.members {
		o := OwnerOf(t)
		switch {
		case !o.Known:
			return Owner{}
		case o.Trusted:
		case result.Trusted:
			result = o
		case result.UID != o.UID:
			return Owner{}
		}
	}
	return result
}

// Changed tells that a member's file changed.
func (c *compound) Changed() bool {
	for _, t := range c.members {
		if Changed(t) {
			return true
		}
	}
	return false
}
