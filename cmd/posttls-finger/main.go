// Command posttls-finger is the command of that name; see posthaste/pkg/command/posttlsfinger.
package main

import (
	"os"

	"posthaste/pkg/command/posttlsfinger"
)

func main() { os.Exit(posttlsfinger.Main(os.Args)) }
