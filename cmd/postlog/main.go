// Command postlog is the command of that name; see posthaste/pkg/command/postlog.
package main

import (
	"os"

	"posthaste/pkg/command/postlog"
)

func main() { os.Exit(postlog.Main(os.Args)) }
