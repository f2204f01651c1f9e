// Command flush remembers what waits for which site; see posthaste/pkg/daemon/flush.
package main

import (
	"os"

	"posthaste/pkg/daemon/flush"
)

func main() { os.Exit(flush.Main(os.Args)) }
