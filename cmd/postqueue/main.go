// Command postqueue is the command of that name; see posthaste/pkg/command/postqueue.
package main

import (
	"os"

	"posthaste/pkg/command/postqueue"
)

func main() { os.Exit(postqueue.Main(os.Args)) }
