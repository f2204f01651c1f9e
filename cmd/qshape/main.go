// Command qshape is the command of that name; see posthaste/pkg/command/qshape.
package main

import (
	"os"

	"posthaste/pkg/command/qshape"
)

func main() { os.Exit(qshape.Main(os.Args)) }
