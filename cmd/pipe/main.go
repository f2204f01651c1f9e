// Command pipe delivers to external commands; see posthaste/pkg/daemon/pipe.
package main

import (
	"os"

	"posthaste/pkg/daemon/pipe"
)

func main() { os.Exit(pipe.Main(os.Args)) }
