// Command qmgr is the queue manager; see posthaste/pkg/daemon/qmgr.
package main

import (
	"os"

	"posthaste/pkg/daemon/qmgr"
)

func main() { os.Exit(qmgr.Main(os.Args)) }
