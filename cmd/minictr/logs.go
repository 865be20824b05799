package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/logfile"
)

// timeOf reads a time: RFC 3339, seconds since 1970, or how long ago: 10m.
func timeOf(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago), nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return time.UnixMicro(int64(seconds * 1e6)), nil
	}
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s: %q is no time such as 2026-01-31T15:04:05, and no duration such as 10m", flag, text)
}

func logsCommand(f *pflag.FlagSet) action {
	var o logfile.Options
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on as long as it writes")
	tail := f.StringP("tail", "n", "all", "the last `N` lines, or all")
	since := f.String("since", "", "only what is not older than `TIME`: 10m, or 2026-01-31T15:04:05")
	until := f.String("until", "", "only what is not younger than `TIME`")
	times := f.BoolP("timestamps", "t", false, "each line with its time")
	return func(c *call) (err error) {
		if err := c.exactly(1, "CONTAINER"); err != nil {
			return err
		}
		if o.Tail = -1; *tail != "all" {
			if o.Tail, err = strconv.Atoi(*tail); err != nil {
				return fmt.Errorf("--tail: %q is neither a number of lines nor all", *tail)
			}
		}
		if o.Since, err = timeOf("since", *since); err != nil {
			return err
		}
		if o.Until, err = timeOf("until", *until); err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		ctr, err := e.Find(c.args[0])
		if err != nil {
			return err
		}
		if ctr.LogFile() == "" {
			return fmt.Errorf("container %s runs in the foreground: its output is at the terminal of the command that runs it", ctr.Title())
		}
		if ctr.Log.None {
			return fmt.Errorf("container %s has no log: --log-driver none", ctr.Title())
		}
		o.Ended = func() bool { return !ctr.Monitored() }
		ctx, stop := signal.NotifyContext(c, unix.SIGINT, unix.SIGTERM)
		defer stop()
		err = logfile.Print(ctx, ctr.LogFile(), o, c.stdout, c.stderr, *times)
		if errors.Is(err, context.Canceled) {
			err = nil // who follows has seen enough
		}
		return err
	}
}

// eventsOrStatistics is events: of all containers, or one's statistics, as the
// OCI's family has them.
func eventsOrStatistics(f *pflag.FlagSet) action {
	statistics := eventsCommand(f)
	since := f.String("since", "", "begin with what happened at `TIME`: 10m, or 2026-01-31T15:04:05")
	until := f.String("until", "", "end with what happened at `TIME`")
	var filters []string
	f.VarP((*list)(&filters), "filter", "f", "only those of a `FILTER`: event=NAME, container=NAME, image=NAME")
	as := f.String("format", "", "print each as this `FORMAT`: json, or a template like {{.Action}}")
	return func(c *call) (err error) {
		if c.runc || len(c.args) > 0 {
			return statistics(c)
		}
		o := engine.EventOptions{Follow: *until == ""}
		if o.Since, err = timeOf("since", *since); err != nil {
			return err
		}
		if o.Until, err = timeOf("until", *until); err != nil {
			return err
		}
		if *since == "" {
			o.Since = time.Now()
		}
		keep, err := eventFilter(filters)
		if err != nil {
			return err
		}
		e, err := c.engine()
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c, unix.SIGINT, unix.SIGTERM)
		defer stop()
		return e.Events(ctx, o, func(event engine.Event) error {
			if !keep(event) {
				return nil
			}
			if *as != "" {
				document, err := format.Document(dockerEvent(event))
				return errors.Join(err, format.Print(c.stdout, *as, []any{document}))
			}
			_, err := fmt.Fprintln(c.stdout, eventLine(event))
			return err
		})
	}
}

// eventFilter says which events are meant: those that meet one filter of each
// kind.
func eventFilter(filters []string) (func(engine.Event) bool, error) {
	kinds := map[string][]string{}
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		if !slices.Contains([]string{"event", "container", "image", "type"}, key) {
			return nil, fmt.Errorf("--filter: %q is none of event=NAME, container=NAME, image=NAME", filter)
		}
		kinds[key] = append(kinds[key], value)
	}
	return func(e engine.Event) bool {
		for key, values := range kinds {
			meets := false
			for _, v := range values {
				switch key {
				case "event":
					meets = meets || v == e.Action
				case "container":
					meets = meets || v == e.Name || v != "" && strings.HasPrefix(e.ID, v)
				case "image":
					meets = meets || v == e.Image
				case "type":
					meets = meets || v == "container"
				}
			}
			if !meets {
				return false
			}
		}
		return true
	}, nil
}

func attributes(e engine.Event) map[string]string {
	all := map[string]string{"image": e.Image, "name": e.Name}
	maps.Copy(all, e.Attributes)
	return all
}

// eventLine is an event as docker prints it.
func eventLine(e engine.Event) string {
	var list []string
	for name, value := range attributes(e) {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return fmt.Sprintf("%s container %s %s (%s)", e.Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00"), e.Action, e.ID, strings.Join(list, ", "))
}

// dockerEvent has the names that docker's events have.
func dockerEvent(e engine.Event) any {
	type actor struct {
		ID         string
		Attributes map[string]string
	}
	return struct {
		Status   string `json:"status"`
		ID       string `json:"id"`
		From     string `json:"from"`
		Type     string
		Action   string
		Actor    actor
		Time     int64 `json:"time"`
		TimeNano int64 `json:"timeNano"`
	}{e.Action, e.ID, e.Image, "container", e.Action, actor{e.ID, attributes(e)}, e.Time.Unix(), e.Time.UnixNano()}
}
