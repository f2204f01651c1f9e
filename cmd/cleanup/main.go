// Command cleanup takes messages into the queue; see posthaste/pkg/daemon/cleanup.
package main

import (
	"os"

	"posthaste/pkg/daemon/cleanup"
)

func main() { os.Exit(cleanup.Main(os.Args)) }
