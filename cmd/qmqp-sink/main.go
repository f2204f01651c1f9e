// Command qmqp-sink is the command of that name; see posthaste/pkg/command/qmqpsink.
package main

import (
	"os"

	"posthaste/pkg/command/qmqpsink"
)

func main() { os.Exit(qmqpsink.Main(os.Args)) }
