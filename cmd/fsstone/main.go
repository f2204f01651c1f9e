// Command fsstone is the command of that name; see posthaste/pkg/command/fsstone.
package main

import (
	"os"

	"posthaste/pkg/command/fsstone"
)

func main() { os.Exit(fsstone.Main(os.Args)) }
