// Command qmqpd receives mail by QMQP; see posthaste/pkg/daemon/qmqpd.
package main

import (
	"os"

	"posthaste/pkg/daemon/qmqpd"
)

func main() { os.Exit(qmqpd.Main(os.Args)) }
