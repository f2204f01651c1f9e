// Command spawn runs a command for each connection; see posthaste/pkg/daemon/spawn.
package main

import (
	"os"

	"posthaste/pkg/daemon/spawn"
)

func main() { os.Exit(spawn.Main(os.Args)) }
