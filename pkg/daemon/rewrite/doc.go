// Package rewrite is trivial-rewrite, the service "rewrite": it turns addresses into
// their canonical form and finds out where their mail goes (spec routing.md §2.4 and
// §3).
//
// Canonical completes an address by syntax only. A Resolver strips local domains,
// finds the address class and applies transport, relayhost and relocation tables.
// Both are safe for concurrent use and keep no state but tables and a short memory
// of the transport table's "*" entry.
//
// Trouble with a table is part of the answer (flag Fail) after a warning; nothing
// here ends the process.
package rewrite
