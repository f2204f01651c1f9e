// Command postlogd writes the log file; see posthaste/pkg/daemon/postlogd.
package main

import (
	"os"

	"posthaste/pkg/daemon/postlogd"
)

func main() { os.Exit(postlogd.Main(os.Args)) }
