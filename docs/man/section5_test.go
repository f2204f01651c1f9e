package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/table"
)

// notOurs are the pages of section 5 that Debian's package has and we do not:
// each describes a type of table. When the type is there the page must be.
var notOurs = map[string]string{"memcache_table": "memcache", "nisplus_table": "nisplus"}

// Every page about files and tables that Debian's package has is here, too.
func TestSectionFive(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "build/debian/usr/share/man/man5/*.5.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("build/debian is not here")
	}
	m := manualOf(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".5.gz")
		if _, ok := notOurs[name]; m.sectionOf5(name) == ok {
			t.Errorf("%s(5): there is a page: %v", name, !ok)
		}
	}
}

// A type of table has a page if and only if it exists.
func TestTableTypesHaveTheirPages(t *testing.T) {
	m := manualOf(t)
	page := map[string]string{"ldap": "ldap_table", "lmdb": "lmdb_table", "mysql": "mysql_table", "pgsql": "pgsql_table", "sqlite": "sqlite_table", "mongodb": "mongodb_table", "redis": "redis_table",
		"cidr": "cidr_table", "pcre": "pcre_table", "regexp": "regexp_table", "tcp": "tcp_table", "socketmap": "socketmap_table"}
	for name, typ := range notOurs {
		page[typ] = name
	}
	for typ, name := range page {
		if exists, has := slices.Contains(table.Types(), typ), m.sectionOf5(name); exists != has {
			t.Errorf("table type %s: exists %v, has a page %s(5) %v", typ, exists, name, has)
		}
	}
}
