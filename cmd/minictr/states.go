package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
)

// An ociStatus is what the commands state and list tell of a container: the
// specification's state, and what runtimes have always added.
type ociStatus struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	PID         int                  `json:"pid"` // 0 when it has stopped
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

func ociState(r *container.Runtime, s *container.State) (*ociStatus, error) {
	status, err := s.Status()
	if err != nil {
		return nil, err
	}
	o := &ociStatus{Version: specs.Version, ID: s.ID, PID: s.PID, Status: status, Bundle: s.Bundle, Rootfs: s.Host.Rootfs, Created: s.Created}
	if status == specs.StateStopped {
		o.PID = 0
	}
	if config, err := r.Config(s); err == nil {
		o.Version, o.Annotations = config.Version, config.Annotations
	}
	return o, nil
}

func listCommand(f *pflag.FlagSet) action {
	format := f.StringP("format", "f", "table", "print it in this `FORMAT`: table or json")
	quiet := f.BoolP("quiet", "q", false, "only their IDs")
	return func(c *call) error {
		if err := c.exactly(0, ""); err != nil {
			return err
		}
		r := c.runtime()
		if _, err := os.Stat(r.Root); errors.Is(err, fs.ErrNotExist) && c.rootGiven {
			return err
		}
		states, broken := r.List() // one that can't be read is no obstacle for the others
		var list []*ociStatus
		for _, s := range states {
			o, err := ociState(r, s)
			if err != nil {
				return err
			}
			if account, err := user.LookupId(strconv.FormatUint(uint64(s.UID), 10)); err == nil {
				o.Owner = account.Username
			}
			list = append(list, o)
		}
		switch {
		case *quiet:
			for _, o := range list {
				fmt.Fprintln(c.stdout, o.ID)
			}
			return broken
		case *format == "json":
			return errors.Join(writeCompact(c.stdout, list), broken)
		case *format != "table":
			return fmt.Errorf("--format: %q is neither table nor json", *format)
		}
		out := tabwriter.NewWriter(c.stdout, 12, 1, 3, ' ', 0)
		fmt.Fprintln(out, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
		for _, o := range list {
			fmt.Fprintf(out, "%s\t%d\t%s\t%s\t%s\t%s\n", o.ID, o.PID, o.Status, o.Bundle, o.Created.Format(time.RFC3339Nano), o.Owner)
		}
		return errors.Join(out.Flush(), broken)
	}
}

// processes prints those of a container of the OCI's family.
func (c *call) processes(format string) error {
	s, err := c.load(c.args[0])
	if err != nil {
		return err
	}
	return c.processesOf(s, format)
}

// processesOf prints the processes of a container: their PIDs, or what ps(1)
// says of them, with the options that the arguments name.
func (c *call) processesOf(s *container.State, format string) error {
	pids, err := s.Processes()
	if err != nil {
		return err
	}
	switch format {
	case "json":
		if pids == nil {
			pids = []int{}
		}
		return writeCompact(c.stdout, pids)
	case "table":
	default:
		return fmt.Errorf("--format: %q is neither table nor json", format)
	}
	options := c.args[1:]
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.Command("ps", options...).Output()
	if err != nil {
		return fmt.Errorf("ps %s: %w", strings.Join(options, " "), err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errors.New("ps prints no column PID: leave its options out, or have them print it")
	}
	var text bytes.Buffer
	fmt.Fprintln(&text, lines[0])
	for _, line := range lines[1:] {
		if fields := strings.Fields(line); len(fields) > column {
			if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
				fmt.Fprintln(&text, line)
			}
		}
	}
	_, err = c.stdout.Write(text.Bytes())
	return err
}
