package dns

import (
	"context"
	"fmt"
	"strings"
)

// Finder is a lookup table; *table.Maps is one.
type Finder interface {
	Find(ctx context.Context, key string) (value string, found bool, err error)
}

// TableFilter is a Client.Filter that looks each record up in its textual form,
// "name. ttl IN type data"; IGNORE removes it. Anything else, and a table
// that fails, is an error. title names the table in warnings. info and warn
// are told what it did; they must be safe for concurrent use.
func TableFilter(maps Finder, title string, info, warn func(format string, a ...any)) func([]Record) ([]Record, error) {
	return func(records []Record) ([]Record, error) {
		var kept []Record
		for _, r := range records {
			text := r.String()
			value, found, err := maps.Find(context.Background(), text)
			switch {
			case err != nil:
				return nil, err
			case !found:
				kept = append(kept, r)
			case !strings.EqualFold(value, "IGNORE"):
				warn("%s: unknown DNS filter action: \"%s\"", title, value)
				return nil, fmt.Errorf("unknown DNS filter action: \"%s\"", value)
			default:
				info("ignoring DNS RR: %s", text)
			}
		}
		return kept, nil
	}
}

// String is the record as zone files have it.
func (r Record) String() string {
	data := r.Host + "."
	switch r.Type {
	case MX:
		data = fmt.Sprintf("%d %s.", r.Pref, r.Host)
	case A, AAAA:
		data = r.Addr.String()
	case TXT:
		data = r.Text
	case TLSA:
		data = fmt.Sprintf("%d %d %d %x", r.Usage, r.Select, r.Match, r.Data)
		if r.Short {
			data = fmt.Sprintf(`\# %d %x`, len(r.Data), r.Data) // RFC 3597 §5
		}
	}
	return fmt.Sprintf("%s. %d IN %s %s", r.Name, r.TTL, r.Type, data)
}
