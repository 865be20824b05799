package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/image"
)

// none stands for a name or an ID that there is not, as Docker has it.
const none = "<none>"

// A listing is how a list is to be printed.
type listing struct {
	whole  *bool
	format *string
}

func listFlags(f *pflag.FlagSet) listing {
	return listing{whole: f.Bool("no-trunc", false, "shorten nothing"), format: formatFlag(f)}
}

// formatFlag defines --format of commands that print lists.
func formatFlag(f *pflag.FlagSet) *string {
	return f.String("format", "table", "print it in this `FORMAT`: table; json, an object a line; a template like {{.ID}} for each; or table and a template")
}

// print prints rows. Without a template the table has those fields whose names
// are given; on a terminal it is no wider than that.
func (c *call) print(l listing, fields []format.Field, table []string, rows []format.Row) error {
	list := format.List{Format: *l.format, Fields: fields, Table: table}
	if !*l.whole {
		list.Columns = c.columns()
	}
	return list.Print(c.stdout, rows)
}

// columns are those of the terminal that standard output is; it has 0 if it is
// none.
func (c *call) columns() int {
	if c.stdout != os.Stdout {
		return 0
	}
	columns, _, _ := term.GetSize(1) // 0 with an error
	return columns
}

func (l listing) id(d image.Digest) string {
	if *l.whole {
		return d.String()
	}
	return d.Short()
}

// text shortens what people wrote; programs get it as it is.
func (l listing) text(s string) string {
	if *l.format == "json" {
		return s
	}
	s = printable(strings.Join(strings.Fields(s), " "))
	if *l.whole {
		return s
	}
	return format.Cut(s, 45)
}

// A computed field is in tables and templates, but Docker's JSON has no such.
func computed(text string) format.Method { return func(string) any { return text } }

// moment is a time for programs.
func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

// day is the day of a time, for people.
func day(t *time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "-"
	}
	return t.Format("2006-01-02")
}

// since says how long ago a time was.
func since(t *time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "N/A"
	}
	return format.Ago(*t, time.Now())
}
