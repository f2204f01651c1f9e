package conf

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Kind is the type of a parameter.
type Kind byte

// The types of spec config.md §0.
const (
	KindString Kind = iota // min and max are lengths of the expanded value
	KindRaw                // as KindString; the value is not expanded when read
	KindInt                // 32 bits
	KindLong               // 64 bits
	KindBool               // yes or no
	KindTime               // seconds
)

// Computed is the default text of parameters whose default Load works out.
const Computed = "(computed)"

// Parameter is one row of the table of built-in parameters.
type Parameter struct {
	Name    string
	Kind    Kind
	Default string // unexpanded; Computed for myhostname, mydomain and mynetworks
	Min     int64  // 0: not checked
	Max     int64  // 0: not checked
	ReadBy  string // program names separated by blanks, or "all"
	Since   string // the release that brought it, "3.8" and later; "" for those of 3.7
}

// The one table of parameters: name, type, default, min, max, read_by, note;
// sorted by name. It is the specification's table plus the deliberate
// differences that its notes name.
//
//go:embed parameters.tsv
var parameterTable string

// The parameters of later releases, with the release in place of the note.
//
//go:embed parameters-new.tsv
var newParameterTable string

var parseParameters = sync.OnceValue(func() []Parameter {
	kinds := map[string]Kind{
		"str": KindString, "raw": KindRaw, "int": KindInt, "nint": KindInt, "long": KindLong,
		"bool": KindBool, "nbool": KindBool, "time:s": KindTime, "time:h": KindTime, "time:d": KindTime,
	}
	list := make([]Parameter, 0, strings.Count(parameterTable, "\n")+strings.Count(newParameterTable, "\n"))
	for _, table := range []string{parameterTable, newParameterTable} {
		_, rows, _ := strings.Cut(table, "\n")
		for rows != "" {
			var row string
			row, rows, _ = strings.Cut(rows, "\n")
			var column [7]string
			for i := range column {
				column[i], row, _ = strings.Cut(row, "\t")
			}
			p := Parameter{Name: column[0], Kind: kinds[column[1]], Default: column[2], ReadBy: column[5]}
			p.Min, _ = strconv.ParseInt(column[3], 10, 64)
			p.Max, _ = strconv.ParseInt(column[4], 10, 64)
			if table == newParameterTable {
				p.Since = column[6]
			}
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	list = slices.CompactFunc(list, func(a, b Parameter) bool { return a.Name == b.Name })
	return list
})

// Parameters returns the built-in parameters sorted by name. The caller must
// not change them.
func Parameters() []Parameter { return parseParameters() }

// LookupParameter finds a built-in parameter.
func LookupParameter(name string) (Parameter, bool) {
	list := parseParameters()
	i, ok := slices.BinarySearchFunc(list, name, func(p Parameter, name string) int { return strings.Compare(p.Name, name) })
	if !ok {
		return Parameter{}, false
	}
	return list[i], true
}

// ServiceParameter is a parameter that a master.cf entry creates under the
// name of the service followed by Suffix (spec config.md 1.12).
type ServiceParameter struct {
	Suffix  string
	Default string // name of the parameter that gives the default
	Kind    Kind
	Min     int64
	Max     int64
}

// ServiceParameters returns the parameters created for each service whose
// command is program.
func ServiceParameters(program string) []ServiceParameter {
	timeLimit := ServiceParameter{"_time_limit", "command_time_limit", KindTime, 1, 0}
	switch program {
	case "local", "error", "virtual", "smtp", "lmtp":
		return transportParameters()
	case "pipe":
		return append(transportParameters(), timeLimit)
	case "spawn":
		return []ServiceParameter{timeLimit}
	}
	return nil
}

func transportParameters() []ServiceParameter {
	list := []ServiceParameter{
		{Suffix: "_recipient_limit"},
		{Suffix: "_extra_recipient_limit"},
		{Suffix: "_recipient_refill_limit", Min: 1},
		{Suffix: "_recipient_refill_delay", Kind: KindTime, Min: 1},
		{Suffix: "_delivery_slot_cost"},
		{Suffix: "_delivery_slot_loan"},
		{Suffix: "_delivery_slot_discount", Max: 100},
		{Suffix: "_minimum_delivery_slots"},
		{Suffix: "_initial_destination_concurrency", Min: 1},
		{Suffix: "_destination_concurrency_limit"},
		{Suffix: "_destination_recipient_limit"},
		{Suffix: "_destination_concurrency_positive_feedback", Kind: KindString, Min: 1},
		{Suffix: "_destination_concurrency_negative_feedback", Kind: KindString, Min: 1},
		{Suffix: "_destination_concurrency_failed_cohort_limit"},
		{Suffix: "_destination_rate_delay", Kind: KindTime},
		{Suffix: "_transport_rate_delay", Kind: KindTime},
	}
	for i := range list {
		p := &list[i]
		p.Default = "default" + p.Suffix
		if p.Suffix == "_initial_destination_concurrency" {
			p.Default = p.Suffix[1:] // its name has no "default_"
		}
		if p.Kind == KindString && p.Min == 0 {
			p.Kind = KindInt
		}
	}
	return list
}
