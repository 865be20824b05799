package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
)

// psFlags are those of ps.
type psFlags struct {
	all, quiet, sizes, latest *bool
	last                      *int
	filters                   []string
	list                      listing
}

func psCommand(f *pflag.FlagSet) action {
	f.SetInterspersed(false)
	p := psFlags{
		all:    f.BoolP("all", "a", false, "also those that are not running"),
		quiet:  f.BoolP("quiet", "q", false, "only their IDs"),
		last:   f.IntP("last", "n", -1, "only the `N` that were made last, running or not"),
		latest: f.BoolP("latest", "l", false, "only the one that was made last, running or not"),
		sizes:  f.BoolP("size", "s", false, "with the bytes that each has written, and those of all its files"),
		list:   listFlags(f),
	}
	f.VarP((*list)(&p.filters), "filter", "f", "only those with `KEY=VALUE`: status, name, id, label, ancestor, exited, network or volume; of one container's processes, print this format: table or json")
	return func(c *call) error {
		if len(c.args) > 0 { // the OCI's
			return c.processes(cmp.Or(strings.Join(p.filters, ""), *p.list.format))
		}
		wanted, err := parseFilters(p.filters)
		if err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		views, broken := p.views(e, wanted)
		if *p.quiet {
			for _, v := range views {
				if _, err := fmt.Fprintln(c.stdout, v.ID); err != nil {
					return err
				}
			}
			return broken
		}
		ports, err := publishedBy(e, views)
		broken = errors.Join(broken, err)
		rows := make([]format.Row, len(views))
		for i, v := range views {
			if rows[i], err = p.row(v); err != nil {
				return err
			}
			rows[i]["Ports"] = ports[v.ID]
		}
		return errors.Join(c.print(p.list, psFields(), p.table(), rows), broken)
	}
}

// views are the containers that are to be listed, the newest first. One that
// can't be read is no obstacle for the others.
func (p *psFlags) views(e *engine.Engine, wanted filters) ([]engine.View, error) {
	containers, broken := e.Containers()
	all := *p.all || *p.latest || *p.last >= 0 || wanted.ofStopped()
	var views []engine.View
	for _, c := range slices.Backward(containers) {
		v, err := c.View()
		if err == nil && (all || live(v)) {
			var matches bool
			if matches, err = wanted.match(v); matches {
				views = append(views, v)
			}
		}
		broken = errors.Join(broken, err)
	}
	switch {
	case *p.latest:
		views = views[:min(len(views), 1)]
	case *p.last >= 0:
		views = views[:min(len(views), *p.last)]
	}
	return views, broken
}

// live says whether a container is one that ps lists without -a.
func live(v engine.View) bool {
	return v.Now.Phase == engine.Running || v.Now.Phase == engine.Paused || v.Now.Phase == engine.Restarting
}

func (p *psFlags) table() []string {
	table := []string{"ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"}
	if *p.sizes {
		table = append(table, "Size")
	}
	return table
}

func psFields() []format.Field {
	return []format.Field{
		{Name: "ID", Heading: "CONTAINER ID"},
		{Name: "Image", Heading: "IMAGE", Long: true},
		{Name: "Command", Heading: "COMMAND", Long: true},
		{Name: "RunningFor", Heading: "CREATED", Long: true},
		{Name: "CreatedAt", Heading: "CREATED AT"},
		{Name: "Status", Heading: "STATUS", Long: true},
		{Name: "State", Heading: "STATE"},
		{Name: "Ports", Heading: "PORTS", Long: true},
		{Name: "Names", Heading: "NAMES"},
		{Name: "Size", Heading: "SIZE"},
		{Name: "Labels", Heading: "LABELS"},
		{Name: "Label", Heading: "LABEL"},
		{Name: "Mounts", Heading: "MOUNTS"},
		{Name: "LocalVolumes", Heading: "LOCAL VOLUMES"},
		{Name: "Networks", Heading: "NETWORKS"},
	}
}

// row is what docker ps says of a container. What is read for it alone is left
// out where a table does not show it.
func (p *psFlags) row(v engine.View) (format.Row, error) {
	var words []string
	for _, w := range v.Command {
		if strings.Contains(w, " ") {
			w = "'" + w + "'"
		}
		words = append(words, w)
	}
	command := strconv.Quote(p.short(strings.Join(words, " "), 20))
	now := time.Now()
	row := format.Row{
		"ID": v.ID, "Image": v.Options.Image, "Command": command, "CreatedAt": v.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), "RunningFor": format.Ago(v.Created, now),
		"Status": v.Now.Words(now), "State": string(v.Now.Phase), "Names": v.Title(), "Size": sizes(v),
	}
	if *p.sizes {
		row["Size"] = sizes(v)("")
	}
	if f := *p.list.format; f == "" || f == "table" {
		return row, nil
	}
	d, err := v.Details()
	if err != nil {
		return nil, err
	}
	var mounts []string
	volumes := 0
	for _, m := range d.Mounts {
		mounts = append(mounts, p.short(cmp.Or(m.Name, m.Source), 15))
		if m.Type == "volume" {
			volumes++
		}
	}
	row["Labels"], row["Mounts"], row["LocalVolumes"], row["Networks"] = labelText(d.Labels), strings.Join(mounts, ","), strconv.Itoa(volumes), d.Network
	row["Label"] = format.Method(func(name string) any { return d.Labels[name] })
	return row, nil
}

// publishedBy says which ports of containers are published where.
func publishedBy(e *engine.Engine, views []engine.View) (map[string]string, error) {
	ports := make(map[string]string)
	if !slices.ContainsFunc(views, func(v engine.View) bool { return v.Options.On() != "" }) {
		return ports, nil
	}
	attached, err := e.Attachments()
	for id, a := range attached {
		var list []string
		for _, p := range a.Ports {
			list = append(list, fmt.Sprintf("%s->%d/%s", netip.AddrPortFrom(p.HostIP, p.Host), p.Container, p.Proto))
		}
		ports[id] = strings.Join(list, ", ")
	}
	return ports, err
}

// labelText lists labels as Docker does.
func labelText(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, ",")
}

func (p *psFlags) short(text string, columns int) string {
	if *p.list.whole {
		return text
	}
	return format.Cut(text, columns)
}

// sizes are those of a container's files, once they are asked for.
func sizes(v engine.View) format.Method {
	return func(string) any {
		own, root, err := v.Sizes()
		if err != nil {
			return "?"
		}
		return fmt.Sprintf("%s (virtual %s)", format.Size(own), format.Size(root))
	}
}

func topCommand(f *pflag.FlagSet) action {
	f.SetInterspersed(false)
	return func(c *call) error {
		if len(c.args) == 0 {
			return errors.New("top needs a container: minictr ps lists them")
		}
		v, err := c.view(c.args[0])
		if err != nil {
			return err
		}
		if v.Process == nil {
			return fmt.Errorf("%w: %s", container.ErrStopped, v.Title())
		}
		return c.processesOf(v.Process, "table")
	}
}

func portCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if len(c.args) != 1 && len(c.args) != 2 {
			return fmt.Errorf("port needs a container: minictr port %s", c.command.args)
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		found, err := e.Find(c.args[0])
		if err != nil {
			return err
		}
		i, err := e.Inspect(found)
		if err != nil {
			return err
		}
		ports := i.NetworkSettings.Ports
		if len(c.args) == 1 {
			for _, port := range slices.SortedFunc(maps.Keys(ports), byNumber) {
				for _, b := range ports[port] {
					fmt.Fprintf(c.stdout, "%s -> %s\n", port, b)
				}
			}
			return nil
		}
		port := c.args[1]
		if !strings.Contains(port, "/") {
			port += "/tcp"
		}
		if len(ports[port]) == 0 {
			return fmt.Errorf("no public port %q published for %s", port, found.Title())
		}
		for _, b := range ports[port] {
			fmt.Fprintln(c.stdout, b)
		}
		return nil
	}
}

// byNumber compares ports such as 80/tcp.
func byNumber(a, b string) int {
	number := func(port string) int {
		n, _ := strconv.Atoi(port[:strings.IndexByte(port+"/", '/')])
		return n
	}
	return cmp.Or(number(a)-number(b), strings.Compare(a, b))
}

// view looks at one container.
func (c *call) view(ref string) (engine.View, error) {
	e, err := c.engine()
	if err != nil {
		return engine.View{}, err
	}
	found, err := e.Find(ref)
	if err != nil {
		return engine.View{}, err
	}
	return found.View()
}
