// Command tlsmgr keeps what TLS sessions of several processes share; see posthaste/pkg/daemon/tlsmgr.
package main

import (
	"os"

	"posthaste/pkg/daemon/tlsmgr"
)

func main() { os.Exit(tlsmgr.Main(os.Args)) }
