// Command proxymap looks tables up for others; see posthaste/pkg/daemon/proxymap.
package main

import (
	"os"

	"posthaste/pkg/daemon/proxymap"
)

func main() { os.Exit(proxymap.Main(os.Args)) }
