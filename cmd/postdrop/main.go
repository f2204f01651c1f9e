// Command postdrop is the command of that name; see posthaste/pkg/command/postdrop.
package main

import (
	"os"

	"posthaste/pkg/command/postdrop"
)

func main() { os.Exit(postdrop.Main(os.Args)) }
