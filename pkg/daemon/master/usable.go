package master

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/mastercf"
)

// usable looks at the configuration before a reload takes it: with one that
// would end master the old one goes on.
func (m *master) usable() error {
	c, err := conf.Load(conf.Options{Dir: os.Getenv("MAIL_CONFIG"), ProcessName: m.name, Fatal: m.log.Fatal})
	if err != nil {
		return err
	}
	for _, p := range conf.Parameters() {
		for _, program := range strings.Fields(p.ReadBy) {
			if program != "all" && program != "daemons" && program != "master" {
				continue
			}
			if !c.IsSet(p.Name) {
				continue
			}
			if err := c.Valid(p.Name); err != nil {
				return err
			}
		}
	}
	if _, err := importWords(c.String("import_environment")); err != nil {
		return fmt.Errorf("import_environment: %w", err)
	}
	entries, err := mastercf.Parse(filepath.Join(c.Dir(), "master.cf"), c)
	if err != nil {
		return err
	}
	params := newParams(c)
	params.ipv4, params.ipv6 = m.first.ipv4, m.first.ipv6
	for _, e := range entries {
		if e.Type != "inet" {
			continue
		}
		endpoint, err := params.parseInet(e.Name)
		if err == nil {
			_, err = params.addresses(endpoint)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
	}
	return nil
}
