package table

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"syscall"
)

// builtin gives the table types every program has.
func builtin() map[string]Type {
	return map[string]Type{
		"hash":      {Open: openHash, Bulk: bulkHash},
		"btree":     {Open: openBtree, Bulk: bulkBtree},
		"cdb":       {Open: openCDB, Bulk: bulkCDB},
		"texthash":  {Open: openTexthash},
		"thash":     {Open: openTexthash},
		"inline":    {Open: openInline},
		"static":    {Open: openStatic},
		"environ":   {Open: openEnviron},
		"internal":  {Open: openInternal},
		"fail":      {Open: openFail, Bulk: bulkFail},
		"randmap":   {Open: openRandmap},
		"pipemap":   {Open: openPipemap},
		"unionmap":  {Open: openUnionmap},
		"regexp":    {Open: openRegexp},
		"pcre":      {Open: openPCRE},
		"cidr":      {Open: openCIDR},
		"unix":      {Open: openUnix},
		"nis":       {Open: openNIS},
		"tcp":       {Open: openTCP},
		"socketmap": {Open: openSocketmap},
		"proxy":     {Open: openProxy},
	}
}

// clientTypes are the types only proxymap and the commands contain.
func clientType(typ string) bool {
	return slices.Contains([]string{"mysql", "pgsql", "sqlite", "ldap", "lmdb", "memcache", "redis"}, typ)
}

// Types gives the names of the built-in types, sorted, as postconf -m lists them.
func Types() []string {
	m := builtin()
	delete(m, "thash")
	return slices.Sorted(maps.Keys(m))
}

func (env Env) find(typ string) (Type, bool) {
	if t, ok := env.Types[typ]; ok {
		return t, true
	}
	t, ok := builtin()[typ]
	return t, ok
}

func (env Env) lookupType(typ, name string) (Type, error) {
	t, ok := env.find(typ)
	if ok {
		return t, nil
	}
	if env.Daemon && clientType(typ) {
		return t, fmt.Errorf("unsupported dictionary type: %s (this program reaches it through the proxymap service: use proxy:%s:%s)", typ, typ, name)
	}
	return t, fmt.Errorf("unsupported dictionary type: %s", typ)
}

// needReadOnly is the check of types that cannot be changed.
func needReadOnly(req Request) error {
	if req.Mode != ReadOnly {
		return fmt.Errorf("%s map requires O_RDONLY access mode", req.Spec)
	}
	return nil
}

func statOwner(st fs.FileInfo) Owner {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{}
	}
	return Owner{Known: true, Trusted: sys.Uid == 0, UID: int(sys.Uid)}
}
