// Command master starts and watches the services; see posthaste/pkg/daemon/master.
package main

import (
	"os"

	"posthaste/pkg/daemon/master"
)

func main() { os.Exit(master.Main(os.Args)) }
