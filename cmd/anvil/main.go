// Command anvil counts connections and requests; see posthaste/pkg/daemon/anvil.
package main

import (
	"os"

	"posthaste/pkg/daemon/anvil"
)

func main() { os.Exit(anvil.Main(os.Args)) }
