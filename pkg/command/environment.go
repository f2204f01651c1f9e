package command

import (
	"os"
	"strings"
)

// Environment makes an environment, as NAME=value, from a list such as
// import_environment: names whose value lookup knows, and name=value.
func Environment(list []string, lookup func(name string) (string, bool)) []string {
	var env []string
	for _, entry := range list {
		name, value, set := strings.Cut(strings.Trim(entry, "{} \t"), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !set {
			if value, set = lookup(name); !set {
				continue
			}
		}
		env = append(env, name+"="+value)
	}
	return env
}

// reduceEnvironment leaves the process what such a list names.
func reduceEnvironment(list []string) {
	kept := Environment(list, os.LookupEnv)
	os.Clearenv()
	for _, entry := range kept {
		name, value, _ := strings.Cut(entry, "=")
		os.Setenv(name, value)
	}
}
