package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
)

// apart is how long two samples are.
const apart = time.Second

func statsCommand(f *pflag.FlagSet) action {
	all := f.BoolP("all", "a", false, "also those that are not running")
	once := f.Bool("no-stream", false, "only once, as off a terminal")
	plain := f.Bool("plain", false, "without control sequences, each second below the last")
	list := listFlags(f)
	return func(c *call) error {
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		streams := !*once && c.stdout == os.Stdout && term.IsTerminal(1)
		draws := streams && !*plain && drawable()
		before, err := c.usages(e, *all)
		for turn := 0; err == nil && (turn == 0 || streams); turn++ {
			time.Sleep(apart)
			var now []sample
			if now, err = c.usages(e, *all); err != nil {
				break
			}
			rows := make([]format.Row, len(now))
			for i, u := range now {
				rows[i] = u.row(before)
			}
			if draws { // from the top of an empty screen
				fmt.Fprint(c.stdout, "\x1b[H\x1b[J")
			}
			err = c.print(list, statsFields(), []string{"ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"}, rows)
			before = now
		}
		return err
	}
}

// A sample is what one container uses; nothing is known of one that does not run.
type sample struct {
	engine.View
	engine.Usage
}

// usages are those of the containers that are named, or of all that run.
func (c *call) usages(e *engine.Engine, all bool) (list []sample, err error) {
	var containers []*engine.Container
	for _, ref := range c.args {
		found, err := e.Find(ref)
		if err != nil {
			return nil, err
		}
		containers = append(containers, found)
	}
	if len(c.args) == 0 {
		if containers, err = e.Containers(); err != nil {
			return nil, err
		}
	}
	for _, found := range containers {
		v, err := found.View()
		if err != nil {
			return nil, err
		}
		if v.Process == nil && !all && len(c.args) == 0 {
			continue
		}
		u, err := v.Usage()
		if err != nil && !errors.Is(err, container.ErrStopped) {
			return nil, err
		}
		list = append(list, sample{v, u})
	}
	return list, nil
}

func statsFields() []format.Field {
	return []format.Field{
		{Name: "ID", Heading: "CONTAINER ID"},
		{Name: "Container", Heading: "CONTAINER"},
		{Name: "Name", Heading: "NAME", Long: true},
		{Name: "CPUPerc", Heading: "CPU %"},
		{Name: "MemUsage", Heading: "MEM USAGE / LIMIT", Long: true},
		{Name: "MemPerc", Heading: "MEM %"},
		{Name: "NetIO", Heading: "NET I/O", Long: true},
		{Name: "BlockIO", Heading: "BLOCK I/O", Long: true},
		{Name: "PIDs", Heading: "PIDS"},
	}
}

// row is what docker stats says of a container, with what it had used before.
func (u sample) row(all []sample) format.Row {
	row := format.Row{"ID": u.ID, "Container": u.ID, "Name": u.Title()}
	if u.At.IsZero() { // it does not run
		for _, name := range []string{"CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"} {
			row[name] = "--"
		}
		return row
	}
	load := 0.0
	for _, before := range all {
		if before.ID == u.ID && !before.At.IsZero() {
			load = u.Load(before.Usage)
		}
	}
	size := func(n uint64) string { return format.Size(int64(n)) }
	row["CPUPerc"] = fmt.Sprintf("%.2f%%", load)
	row["MemUsage"] = format.BinarySize(u.Memory) + " / " + format.BinarySize(u.Limit)
	row["MemPerc"] = fmt.Sprintf("%.2f%%", 100*float64(u.Memory)/float64(max(u.Limit, 1)))
	row["NetIO"], row["BlockIO"] = size(u.Received)+" / "+size(u.Sent), size(u.Read)+" / "+size(u.Written)
	row["PIDs"] = fmt.Sprint(u.PIDs)
	return row
}
