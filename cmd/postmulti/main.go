// Command postmulti is the command of that name; see posthaste/pkg/command/postmulti.
package main

import (
	"os"

	"posthaste/pkg/command/postmulti"
)

func main() { os.Exit(postmulti.Main(os.Args)) }
