// Command tlsproxy speaks TLS for others; see posthaste/pkg/daemon/tlsproxy.
package main

import (
	"os"

	"posthaste/pkg/daemon/tlsproxy"
)

func main() { os.Exit(tlsproxy.Main(os.Args)) }
