// Go would read our cgroup's CPU limit each second, and not only at the start,
// to choose its number of threads. What runs here is mostly one thread.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command minictr runs containers, and shows what they are.
//
// Output rules: standard output is the container's, or the data asked for;
// standard error is ours. Messages are in lower case, on one line, without a
// full stop, and end with what to do next where that is known.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/minictr/minictr/pkg/compare"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/lang"
	"github.com/minictr/minictr/pkg/vm"
	"github.com/minictr/minictr/rootfs"
)

func main() {
	// Under the name of one of its commands this program is that command: so
	// it serves in the built-in image.
	name := filepath.Base(os.Args[0])
	if applet, ok := rootfs.Applet(name); ok {
		os.Exit(applet(os.Args))
	}
	if os.Getpid() == 1 && name == vm.InitName {
		vm.Init()
	}
	if name == compare.ProbeName {
		if err := compare.Probe(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", compare.ProbeName, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(&call{Context: context.Background(), runc: name == "runc", stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
}

// An exitCode is the status of a container's program, which says itself what
// was wrong.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run is the whole command: it returns its exit status.
func run(c *call, args []string) int {
	err := dispatch(c, args)
	var exit exitCode
	var monitor engine.MonitorError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &monitor): // it has said why
		return c.failed(int(monitor))
	}
	message, hint, code, status := explain(err)
	status = c.failed(status)
	if c.ociFamily() {
		code = ""
	}
	message, hint = oneLine(message), oneLine(hint)
	if c.log == "" {
		if code != "" { // who calls the OCI's family compares messages with texts of his own
			hint, code = lang.Local().Line(hint), " ["+code+"]"
		}
		fmt.Fprintf(c.stderr, "minictr: %s%s%s\n", message, because(hint), code)
		return status
	}
	// Callers match what is in the log with texts of their own, and show it to
	// people who did not type this command: no hints.
	fmt.Fprintln(c.stderr, message)
	if err := c.logError(message); err != nil {
		fmt.Fprintf(c.stderr, "minictr: --log: %v\n", err)
	}
	return status
}

// failed is the exit status of a command for an error that run has that one for.
func (c *call) failed(run int) int {
	switch {
	case c.name == "exec" && c.ociFamily():
		return statusExec
	case c.ociFamily():
		return statusFailed
	}
	switch c.name {
	case "run", engine.MonitorCommand, "vm", "lesson": // 1 is their program's, or a wrong answer
		return run
	case "plan": // step by step it is run
		if c.flags.Changed("step") {
			return run
		}
	}
	return statusFailed
}

// oneLine joins the lines of errors.Join.
func oneLine(text string) string { return printable(strings.ReplaceAll(text, "\n", "; ")) }

// printable shows what a terminal would obey: what archives and registries say
// ends up in messages.
func printable(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD") // a byte alone may be a control of 8 bits
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if isControl(r) {
			fmt.Fprintf(&out, "\\x%02x", r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// isControl says so of marks that turn the direction of writing, too: text that
// is shown in another order than it stands in.
func isControl(r rune) bool { return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }

// ociFamily says whether the call is one that container managers make.
func (c *call) ociFamily() bool {
	if c.everyday {
		return false
	}
	bundle := c.flags != nil && c.flags.Changed("bundle")
	return c.runc || c.oci && (c.name != "create" || bundle) || c.name == "run" && bundle || c.name == "ps" && len(c.args) > 0
}

// logError appends an error to the log.
func (c *call) logError(message string) error {
	now := time.Now().Format(time.RFC3339)
	line := fmt.Sprintf("time=%q level=error msg=%q\n", now, message)
	if c.logFormat == "json" {
		entry, err := json.Marshal(map[string]string{"level": "error", "msg": message, "time": now})
		if err != nil {
			return err
		}
		line = string(entry) + "\n"
	}
	f, err := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
