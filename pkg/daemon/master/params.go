package master

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// firstParams are the parameters that take effect only at the start.
type firstParams struct {
	configDir, queueDir, inetProtocols string
	ipv4, ipv6                         bool
}

// params is what master needs of main.cf.
type params struct {
	firstParams
	dataDir, daemonDir string
	inetInterfaces     string
	own                []netip.Prefix // the addresses that inet_interfaces selects
	processLimit       int
	throttle           time.Duration
	importEnv          string
	window             int               // tcp_windowsize
	ports              map[string]string // known_tcp_ports
}

func newParams(c *conf.Config) params {
	p := params{
		firstParams: firstParams{
			configDir: c.Dir(), queueDir: c.String("queue_directory"), inetProtocols: c.String("inet_protocols"),
		},
		dataDir: c.String("data_directory"), daemonDir: c.String("daemon_directory"),
		inetInterfaces: c.String("inet_interfaces"), own: c.Addresses(),
		processLimit: c.Int("default_process_limit"), throttle: c.Duration("service_throttle_time"),
		importEnv: c.String("import_environment"),
		window:    c.Int("tcp_windowsize"), ports: c.KnownPorts(),
	}
	p.ipv4, p.ipv6 = c.Protocols()
	return p
}

func separator(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }

// childEnv filters our environment by import_environment (spec §1.3).
func (m *master) childEnv(environ []string) []string {
	ours := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			ours[name] = value
		}
	}
	var env []string
	words, err := importWords(m.params.importEnv)
	if err != nil {
		m.log.Fatal("import_environment: %v", err)
	}
	for _, word := range words {
		name, value, set := strings.Cut(word, "=")
		name = strings.TrimSpace(name)
		if name == "" {
			m.log.Fatal("clean_env: missing attribute name in: %s", word)
		}
		if !set {
			if value, set = ours[name]; !set {
				continue
			}
		}
		env = append(env, name+"="+strings.TrimSpace(value))
	}
	return env
}

// importWords splits import_environment; items may be in braces.
func importWords(text string) ([]string, error) {
	var words []string
	for {
		text = strings.TrimLeftFunc(text, separator)
		if text == "" {
			return words, nil
		}
		if text[0] == '{' {
			inside, rest, err := braced(text)
			if err != nil {
				return nil, err
			}
			words, text = append(words, strings.TrimSpace(inside)), rest
			continue
		}
		end := strings.IndexFunc(text, separator)
		if end < 0 {
			end = len(text)
		}
		words, text = append(words, text[:end]), text[end:]
	}
}

func braced(text string) (inside, rest string, err error) {
	end := macro.Closing(text)
	if end < 0 {
		return "", "", fmt.Errorf("missing '}' in \"%s\"", text)
	}
	rest = text[end+1:]
	if rest != "" && strings.IndexFunc(rest[:1], separator) < 0 {
		return "", "", fmt.Errorf("syntax error after '}' in \"%s\"", text)
	}
	return text[1:end], rest, nil
}

// setEnv replaces or adds a variable; "" removes it.
func setEnv(env []string, name, value string) []string {
	out := env[:0:0]
	found := false
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			if value == "" || found {
				continue
			}
			e, found = name+"="+value, true
		}
		out = append(out, e)
	}
	if !found && value != "" {
		out = append(out, name+"="+value)
	}
	return out
}
