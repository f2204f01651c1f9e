// Command verify remembers which addresses are deliverable; see posthaste/pkg/daemon/verify.
package main

import (
	"os"

	"posthaste/pkg/daemon/verify"
)

func main() { os.Exit(verify.Main(os.Args)) }
