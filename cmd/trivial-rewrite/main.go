// Command trivial-rewrite rewrites and resolves addresses; see posthaste/pkg/daemon/rewrite.
package main

import (
	"os"

	"posthaste/pkg/daemon/rewrite"
)

func main() { os.Exit(rewrite.Main(os.Args)) }
