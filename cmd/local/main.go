// Command local delivers to local users, aliases, files and commands; see posthaste/pkg/daemon/local.
package main

import (
	"os"

	"posthaste/pkg/daemon/local"
)

func main() { os.Exit(local.Main(os.Args)) }
