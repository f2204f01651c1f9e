// Command postmap is the command of that name; see posthaste/pkg/command/postmap.
package main

import (
	"os"

	"posthaste/pkg/command/postmap"
)

func main() { os.Exit(postmap.Main(os.Args)) }
