// Command error bounces or defers with a fixed reason; see posthaste/pkg/daemon/erroragent.
package main

import (
	"os"

	"posthaste/pkg/daemon/erroragent"
)

func main() { os.Exit(erroragent.Main(os.Args)) }
