package postconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"posthaste/pkg/conf"
)

// clientNames holds the parameters of each database client, without the
// "PREFIX_" that main.cf puts before them.
var clientNames = map[string][]string{
	"ldap": strings.Fields(`bind bind_dn bind_pw cache cache_expiry cache_size chase_referrals debuglevel dereference domain
		expansion_limit leaf_result_attribute query_filter recursion_limit result_attribute result_filter result_format
		sasl_authz_id sasl_mechs sasl_minssf sasl_realm scope search_base server_host server_port size_limit
		special_result_attribute start_tls terminal_result_attribute timeout tls_ca_cert_dir tls_ca_cert_file tls_cert
		tls_cipher_suite tls_key tls_random_file tls_require_cert version`),
	"mysql": strings.Fields(`additional_conditions dbname domain expansion_limit hosts option_file option_group password query
		require_result_set result_format select_field table tls_CAfile tls_CApath tls_cert_file tls_ciphers tls_key_file
		tls_verify_cert user where_field`),
	"pgsql": strings.Fields(`additional_conditions dbname domain expansion_limit hosts password query result_format
		select_field select_function table user where_field`),
	"sqlite": strings.Fields(`additional_conditions dbpath domain expansion_limit query result_format select_field table
		where_field`),
	"memcache": strings.Fields(`backup data_size_limit domain flags key_format line_size_limit max_try memcache retry_pause
		timeout ttl`),
}

// maxNesting bounds lists within lists.
const maxNesting = 100

// clients looks in an expanded value for "TYPE:PREFIX" of database clients and
// marks their parameters as used.
func (s scope) clients(value string, depth int) error {
	if depth > maxNesting || !strings.Contains(value, ":") {
		return nil
	}
	for _, word := range conf.FieldsBraced(value) {
		for strings.HasPrefix(word, "proxy:") {
			word = word[len("proxy:"):]
		}
		if strings.HasPrefix(word, "{") {
			if inner, err := conf.Unbrace(word); err == nil {
				if err := s.clients(inner, depth+1); err != nil {
					return err
				}
			}
			continue
		}
		typ, prefix, ok := strings.Cut(word, ":")
		if !ok {
			continue
		}
		if strings.HasPrefix(prefix, "{") {
			if inner, err := conf.Unbrace(prefix); err == nil {
				if err := s.clients(inner, depth+1); err != nil {
					return err
				}
			}
			continue
		}
		names := clientNames[typ]
		switch {
		case names == nil || prefix == "" || prefix[0] == '.':
		case prefix[0] == '/':
			if err := s.m.clientFile(typ, prefix, names); err != nil {
				return err
			}
		default:
			for _, name := range names {
				s.use(prefix + "_" + name)
			}
		}
	}
	return nil
}

// clientFile warns about names in a client's file that the client does not
// know.
func (m *model) clientFile(typ, path string, names []string) error {
	if m.files[typ+":"+path] {
		return nil
	}
	m.files[typ+":"+path] = true
	f, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrPermission) {
			m.p.warn(`open "%s" configuration "%s": %s`, typ, path, conf.Reason(err))
		}
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		m.p.warn(`open "%s" configuration "%s": not a regular file`, typ, path)
		return nil
	}
	settings, err := conf.ParseSettings(f, path, m.p.warn)
	if err != nil {
		if strings.HasPrefix(err.Error(), "read ") {
			m.p.warn(`read "%s" configuration "%s": %s`, typ, path, strings.TrimPrefix(err.Error(), "read "+path+": "))
			return nil
		}
		return err
	}
	for _, name := range settings.Names() {
		if !slices.Contains(names, name) && !m.p.opt.quiet {
			m.p.warn("%s", fmt.Sprintf("%s:%s: unused parameter: %s=%s", typ, path, name, settings[name]))
		}
	}
	return nil
}
