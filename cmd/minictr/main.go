// Go would read our cgroup's CPU limit at every start, and again each second,
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
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/minictr/minictr/pkg/compare"
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
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// An exitCode is the status of a container's program, which says itself what
// was wrong.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run is the whole command: it returns its exit status.
func run(args []string, stdout, stderr io.Writer) int {
	err := dispatch(&call{Context: context.Background(), stdout: stdout, stderr: stderr}, args)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	message, status := explain(err)
	fmt.Fprintf(stderr, "minictr: %s\n", strings.ReplaceAll(message, "\n", "; ")) // of errors.Join
	return status
}
