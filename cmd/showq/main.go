// Command showq lists the queue; see posthaste/pkg/daemon/showq.
package main

import (
	"os"

	"posthaste/pkg/daemon/showq"
)

func main() { os.Exit(showq.Main(os.Args)) }
