// Command virtual delivers to mailboxes of users without an account; see posthaste/pkg/daemon/virtual.
package main

import (
	"os"

	"posthaste/pkg/daemon/virtual"
)

func main() { os.Exit(virtual.Main(os.Args)) }
