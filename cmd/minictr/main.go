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
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/rootfs"
)

func main() {
	// Under the name of one of its commands this program is that command: so
	// it serves in the built-in image.
	if applet, ok := rootfs.Applet(filepath.Base(os.Args[0])); ok {
		os.Exit(applet(os.Args))
	}
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// An exitCode is the status of a container's program, which says itself what
// was wrong.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run is the whole command: it returns its exit status.
func run(args []string, stdout, stderr io.Writer) int {
	err := app(stdout, stderr).Run(args)
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

func app(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:      "minictr",
		Usage:     "containers that can be read: a wall of system calls around a process",
		Writer:    stdout,
		ErrWriter: stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "root", Usage: "keep images and containers' files in `DIR`", Value: engine.DefaultRoot, EnvVars: []string{"MINICTR_ROOT"}},
			&cli.StringFlag{Name: "run-root", Usage: "keep the state of containers in `DIR`", Value: engine.DefaultRun, EnvVars: []string{"MINICTR_RUN_ROOT"}},
			&cli.StringSliceFlag{Name: "mirror", Usage: "ask `HOST=URL`, a mirror, before the registry HOST", EnvVars: []string{"MINICTR_MIRROR"}},
			&cli.StringSliceFlag{Name: "insecure-registry", Usage: "speak plain HTTP to `HOST`", EnvVars: []string{"MINICTR_INSECURE_REGISTRY"}},
		},
		Commands: []*cli.Command{
			runCommand(), planCommand(), psCommand(), rmCommand(),
			pullCommand(), loadCommand(), imagesCommand(), rmiCommand(),
			specCommand(), doctorCommand(), versionCommand(), completionCommand(),
		},
		HideVersion:               true,
		EnableBashCompletion:      true,
		UseShortOptionHandling:    true,
		DisableSliceFlagSeparator: true,                         // values may have commas in them
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides
		OnUsageError:              usageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fmt.Errorf("unknown command %q: minictr help lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// theEngine is the engine that the global flags ask for.
func theEngine(c *cli.Context) (*engine.Engine, error) {
	mirrors, err := mirrorsOf(words(c, "mirror"))
	if err != nil {
		return nil, err
	}
	return &engine.Engine{
		Root:     c.String("root"),
		Runtime:  container.Runtime{Root: c.String("run-root")},
		Pull:     image.PullOptions{Mirrors: mirrors, Insecure: words(c, "insecure-registry")},
		Messages: c.App.ErrWriter,
	}, nil
}
