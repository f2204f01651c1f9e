// Command discard delivers into nothing; see posthaste/pkg/daemon/discard.
package main

import (
	"os"

	"posthaste/pkg/daemon/discard"
)

func main() { os.Exit(discard.Main(os.Args)) }
