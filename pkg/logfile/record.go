// Package logfile keeps what a container writes, in the CRI's log format, which
// the kubelet and log collectors read: records of one line each,
//
//	2016-10-06T00:17:09.669794202Z stdout F a line
//	2016-10-06T00:17:09.669794202Z stderr P a piece of a line
//
// The container's monitor is the only writer; anybody may read meanwhile, and
// nobody locks anything. The file log is followed by log.1, the one before it.
package logfile

import (
	"bytes"
	"time"
)

// maxText is how many bytes of the program a record has at most, as the CRI's
// other writers have it.
const maxText = 16 << 10

const (
	stdout = "stdout"
	stderr = "stderr"
)

// layout is RFC 3339 with all nine digits, so that times in a column align.
const layout = "2006-01-02T15:04:05.000000000Z07:00"

// A Record is a line that a program wrote, or a piece of one.
type Record struct {
	Time    time.Time
	Stream  string // "stdout" or "stderr"
	Text    []byte // any bytes but a newline
	Partial bool   // the stream's next record goes on with the same line
}

// appendRecord appends a record as it stands in the file.
func appendRecord(b, stamp []byte, stream string, partial bool, text []byte) []byte {
	b = append(append(append(b, stamp...), ' '), stream...)
	if partial {
		b = append(b, " P "...)
	} else {
		b = append(b, " F "...)
	}
	return append(append(b, text...), '\n')
}

// parse reads a line of a file, without its newline. Text is part of it.
func parse(line []byte) (r Record, ok bool) {
	stamp, rest, _ := bytes.Cut(line, []byte(" "))
	stream, rest, _ := bytes.Cut(rest, []byte(" "))
	tags, text, ok := bytes.Cut(rest, []byte(" "))
	tag, _, _ := bytes.Cut(tags, []byte(":")) // more may follow, which nobody has defined
	r.Text, r.Partial = text, string(tag) == "P"
	switch {
	case string(stream) == stdout:
		r.Stream = stdout
	case string(stream) == stderr:
		r.Stream = stderr
	default:
		return r, false
	}
	if !r.Partial && string(tag) != "F" || r.Time.UnmarshalText(stamp) != nil {
		return r, false
	}
	return r, ok
}
