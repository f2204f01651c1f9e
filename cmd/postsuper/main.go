// Command postsuper is the command of that name; see posthaste/pkg/command/postsuper.
package main

import (
	"os"

	"posthaste/pkg/command/postsuper"
)

func main() { os.Exit(postsuper.Main(os.Args)) }
