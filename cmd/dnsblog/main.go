// Command dnsblog looks addresses up in DNS lists for postscreen; see posthaste/pkg/daemon/dnsblog.
package main

import (
	"os"

	"posthaste/pkg/daemon/dnsblog"
)

func main() { os.Exit(dnsblog.Main(os.Args)) }
