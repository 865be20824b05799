package format

import (
	"strings"
	"testing"
	"time"

	"github.com/minictr/minictr/pkg/lang"
)

func printed(t *testing.T, format string, columns int, rows ...Row) string {
	t.Helper()
	l := List{Format: format, Columns: columns, Table: []string{"ID", "Command", "Names"}, Fields: []Field{
		{"ID", "CONTAINER ID", false}, {"Command", "COMMAND", true}, {"Names", "NAMES", false}, {"Size", "SIZE", false},
	}}
	var out strings.Builder
	if err := l.Print(&out, rows); err != nil {
		return err.Error()
	}
	return out.String()
}

func TestList(t *testing.T) {
	one := Row{"ID": "0123456789ab", "Command": "sh -c 'echo <hello>'", "Names": "하나", "Size": Method(func(string) any { return "5B" })}
	two := Row{"ID": "ba9876543210", "Command": "sh", "Names": "two", "Size": "7B"}
	for _, c := range []struct {
		format  string
		columns int
		want    string
	}{
		{"", 0, "CONTAINER ID   COMMAND                NAMES\n0123456789ab   sh -c 'echo <hello>'   하나\nba9876543210   sh                     two\n"},
		{"table", 42, "CONTAINER ID   COMMAND               NAMES\n0123456789ab   sh -c 'echo <hello…   하나\nba9876543210   sh                    two\n"},
		{"table", 10, "CONTAINER ID   COMMAND   NAMES\n0123456789ab   sh -c …   하나\nba9876543210   sh        two\n"},
		{"json", 10, `{"Command":"sh -c 'echo <hello>'","ID":"0123456789ab","Names":"하나"}` + "\n" + `{"Command":"sh","ID":"ba9876543210","Names":"two","Size":"7B"}` + "\n"},
		{`{{.Names}}\t{{.Size}}`, 0, "하나\t5B\ntwo\t7B\n"},
		{`table {{.Names}}\t{{upper .ID}}\t{{.Size}}`, 9, "NAMES     CONTAINER ID   SIZE\n하나      0123456789AB   5B\ntwo       BA9876543210   7B\n"},
		{`table {{.Names}}`, 0, "NAMES\n하나\ntwo\n"},
		{"yaml", 0, `--format: "yaml" is neither json nor a template like {{.ID}}`},
		{"{{.Nosuch}}", 0, "--format: there is no field .Nosuch; there are .Command .ID .Names .Size"},
		{"table {{.Nosuch}}", 0, "--format: there is no field .Nosuch; there are .Command .ID .Names .Size"},
	} {
		if got := printed(t, c.format, c.columns, one, two); got != c.want {
			t.Errorf("%q, %d columns:\n%s\nwant:\n%s", c.format, c.columns, got, c.want)
		}
	}
	if got := printed(t, "", 80); got != "CONTAINER ID   COMMAND   NAMES\n" {
		t.Errorf("no rows: %q", got)
	}
	for columns := range 30 {
		if got := Cut("가나다라 abc 마바사", columns); lang.Width(got) > max(columns, 1) {
			t.Errorf("%d columns: %q", columns, got)
		}
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 12_345_678: "12.3MB", 999_900: "1MB", 1_234_000_000: "1.23GB", 5_000_000_000_000: "5TB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0B", 1023: "1023B", 1536: "1.5KiB", 8_000_000_000: "7.451GiB", 1 << 63: "8EiB"} {
		if got := BinarySize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	now := time.Now()
	for ago, want := range map[time.Duration]string{
		-time.Second: "Less than a second", 0: "Less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds", 61 * time.Second: "About a minute", 5 * time.Minute: "5 minutes",
		80 * time.Minute: "About an hour", 100 * time.Minute: "2 hours", 47 * time.Hour: "47 hours", 48 * time.Hour: "2 days",
		15 * 24 * time.Hour: "2 weeks", 90 * 24 * time.Hour: "3 months", 800 * 24 * time.Hour: "2 years",
	} {
		if got := Ago(now.Add(-ago), now); got != want+" ago" {
			t.Errorf("%s: %s, want %s", ago, got, want)
		}
	}
}
