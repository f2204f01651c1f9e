// Command qmqp-source is the command of that name; see posthaste/pkg/command/qmqpsource.
package main

import (
	"os"

	"posthaste/pkg/command/qmqpsource"
)

func main() { os.Exit(qmqpsource.Main(os.Args)) }
