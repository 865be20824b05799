package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/rootless"
	"github.com/minictr/minictr/pkg/systemd"
)

// A command is what the first word after minictr, and its flags, names.
type command struct {
	name  string
	args  string // what comes after the flags
	about string
	// oci says that container managers call it, and that it does as runc does:
	// its exit status for an error is 1, and exec's is 255.
	oci bool
	// setup defines the command's flags, and returns what it does once they
	// are parsed. Nothing is made for the commands that are not called.
	setup func(*pflag.FlagSet) action
}

type action func(*call) error

// commands is the whole command line. It is a function because help and
// completion, which it names, read it.
func commands() []command {
	return []command{
		{"run", "IMAGE [COMMAND...] | --bundle DIR ID", "run an image, or a bundle, in a new container", false, runCommand},
		{"plan", "IMAGE|BUNDLE|--container ID [COMMAND...]", "print the wall: the system calls that run would make, and why", false, planCommand},
		{"wall", "[CONTAINER | --pid PID]", "look at the wall around a container of whoever made it, or around any process", false, wallCommand},
		{"wall diff", "A B", "say where the walls of two containers differ, or of processes: pid:N", false, wallDiffCommand},
		{"vm", "IMAGE [COMMAND...]", "run an image in a virtual machine, behind another wall", false, vmCommand},
		{"lesson", "[NUMBER|FILE]", "find out what people get wrong about containers: predict, run, explain, and answer a question", false, lessonCommand},
		{"compare", "IMAGE [COMMAND...]", "run COMMAND bare (on this host, without a wall), in a container and in a virtual machine, and measure", false, compareCommand},
		{"ps", "[CONTAINER [OPTIONS OF ps]]", "list the containers, or the processes of one", false, psCommand},
		{"stop", "CONTAINER...", "ask containers to end, and kill those that do not", false, stopCommand},
		{"restart", "CONTAINER...", "stop containers, and start them", false, restartCommand},
		{"wait", "CONTAINER...", "wait until containers end, and print their exit statuses", false, waitCommand},
		{"logs", "CONTAINER", "print what a container has written", false, logsCommand},
		{"attach", "CONTAINER", "be at a container's terminal, or see its output", false, attachCommand},
		{"rename", "CONTAINER NAME", "give a container another name", false, renameCommand},
		{"stats", "[CONTAINER...]", "show what containers use: processor, memory, network, disk", false, statsCommand},
		{"top", "CONTAINER [OPTIONS OF ps]", "list the processes of a container", false, topCommand},
		{"port", "CONTAINER [PORT]", "list the ports of a container that the host publishes", false, portCommand},
		{"rm", "CONTAINER...", "remove containers", false, rmCommand},
		{"cp", "CONTAINER:SRC DST|- | SRC|- CONTAINER:DST", "copy files from a container, or into it; - is a tar stream", false, copyCommand},
		{"diff", "CONTAINER", "list what a container has added (A), changed (C) and deleted (D) of its image's files", false, diffCommand},
		{"volume create", "[NAME]", "make a directory that outlives containers", false, volumeCreateCommand},
		{"volume ls", "", "list the volumes", false, volumeListCommand},
		{"volume inspect", "VOLUME...", "print all that is known of volumes, as JSON", false, volumeInspectCommand},
		{"volume rm", "VOLUME...", "remove volumes that no container uses", false, volumeRemoveCommand},
		{"volume prune", "", "remove the volumes without a name, or all, that no container uses", false, volumePruneCommand},
		{"network create", "NETWORK", "make a network, on which containers find each other by name", false, networkCreateCommand},
		{"network ls", "", "list the networks", false, networkListCommand},
		{"network inspect", "NETWORK...", "print all that is known of networks, as JSON", false, networkInspectCommand},
		{"network rm", "NETWORK...", "remove networks that no container is on", false, networkRemoveCommand},
		{"network prune", "", "remove all networks that no container is on", false, networkPruneCommand},
		{"pull", "IMAGE", "fetch an image from a registry", false, pullCommand},
		{"push", "NAME", "send an image to the registry that its name begins with", false, pushCommand},
		{"login", "[HOST]", "sign in at a registry; docker.io if none is named", false, loginCommand},
		{"logout", "[HOST]", "forget the password for a registry", false, logoutCommand},
		{"load", "[FILE|DIR|-]", "take images from an OCI layout, or an archive of docker save or of an OCI layout", false, loadCommand},
		{"save", "IMAGE...", "write images into an archive, which docker, podman and skopeo take too", false, saveCommand},
		{"import", "FILE|- NAME", "make an image of the archive of a root file system", false, importCommand},
		{"commit", "CONTAINER NAME", "make an image of what a container has changed", false, commitCommand},
		{"export", "CONTAINER", "write the root of a container as a tar", false, exportCommand},
		{"images", "[REPOSITORY[:TAG]]", "list the images", false, imagesCommand},
		{"inspect", "CONTAINER|IMAGE...", "print all that is known of containers and images, as JSON", false, inspectCommand},
		{"history", "IMAGE", "list how an image was made, the last step first", false, historyCommand},
		{"tag", "IMAGE NAME", "give an image one more name", false, tagCommand},
		{"rmi", "IMAGE...", "remove images", false, rmiCommand},
		{"container prune", "", "remove all containers that are not running", false, containerPruneCommand},
		{"system df", "", "say what images, containers and volumes take of the disk", false, systemDiskCommand},
		{"system prune", "", "remove containers, networks and images that nobody uses", false, systemPruneCommand},
		{"image from", "DIR NAME", "make an image of a directory tree", false, imageFromCommand},
		{"image prune", "", "remove images that have no name, or that no container uses", false, imagePruneCommand},
		{"image tree", "IMAGE", "show what each layer of an image adds, replaces, removes and hides", false, imageTreeCommand},
		{"unpack", "IMAGE DIR", "make a directory of an image's files", false, unpackCommand},
		{"bundle", "IMAGE DIR [COMMAND...]", "make an OCI bundle of an image, which any runtime can run", false, bundleCommand},
		{"create", "IMAGE [COMMAND...] | --bundle DIR ID", "make a container of an image, or of a bundle, and leave its program waiting", true, createOrBundle},
		{"start", "CONTAINER...", "start containers that are not running, or that only wait", true, startCommand},
		{"state", "ID", "print the state of a container, as JSON", true, stateCommand},
		{"exec", "ID COMMAND...", "run one more program in a container", true, execCommand},
		{"kill", "ID [SIGNAL]", "send a signal to a container's first process: TERM, or another", true, killCommand},
		{"pause", "ID", "stop all processes of a container", true, pauseCommand},
		{"resume", "ID", "let them go on", true, resumeCommand},
		{"unpause", "ID", "let them go on, as people know it", true, resumeCommand},
		{"update", "CONTAINER...", "change the limits of containers, or when they start again", true, updateCommand},
		{"events", "[ID]", "print what happens to containers, or one's statistics", true, eventsOrStatistics},
		{"delete", "ID", "remove a container that has stopped", true, deleteCommand},
		{"list", "", "list the containers, as container managers do", true, listCommand},
		{"features", "", "print what this runtime can do, as JSON", true, featuresCommand},
		{"checkpoint", "ID", "not supported", true, refusedCommand},
		{"restore", "ID", "not supported", true, refusedCommand},
		{"spec", "", "write a config.json, to be changed and run as a bundle", false, specCommand},
		{"doctor", "", "say what this host has and lacks, and what to do about it", false, doctorCommand},
		{"explain", "[CODE]", "say what an error's code means, and what to do; list the codes", false, explainCommand},
		{"version", "", "print the version", false, versionCommand},
		{"completion", "bash|zsh|fish", "print a completion script for a shell", false, completionCommand},
		{"help", "[COMMAND]", "say what a command does, and what its flags are", false, helpCommand},
	}
}

// asRunc is the command line under the name runc: the commands of the OCI's
// family, of which some have a name that means more here.
func asRunc() []command {
	list := slices.DeleteFunc(commands(), func(cmd command) bool {
		return !cmd.oci || slices.Contains([]string{"create", "start", "events", "unpause"}, cmd.name)
	})
	return append(list,
		command{"create", "ID", "make a container of a bundle, and leave its process waiting before its program", true, createBundleCommand},
		command{"events", "ID", "print a container's statistics, and when it runs out of memory", true, eventsCommand},
		command{"start", "ID", "let the program of a created container begin", true, beginCommand},
		command{"run", "ID", "run a bundle in a new container", true, runBundleCommand},
		command{"ps", "ID [OPTIONS OF ps]", "list the processes of a container", true, processesCommand},
		command{"spec", "", "write a config.json", true, specCommand},
		command{"help", "[COMMAND]", "say what a command does, and what its flags are", true, helpCommand})
}

// table is the command line under the name that this program was called by.
func (c *call) table() []command {
	if c.runc {
		return asRunc()
	}
	return commands()
}

// family is the first word of commands of two, and which of those are commands
// of one word, as docker has it.
type family struct {
	alone map[string]string // by the second word; "" is that word
	more  string            // what to say of them
}

func families(word string) (family, bool) {
	switch word {
	case "image":
		return family{map[string]string{
			"ls": "images", "rm": "rmi", "history": "", "import": "", "inspect": "", "load": "", "pull": "", "push": "", "save": "", "tag": "",
		}, "ls, rm, tag, pull and others are as without it"}, true
	case "container":
		return family{map[string]string{
			"ls": "ps", "list": "ps", "attach": "", "commit": "", "cp": "", "create": "", "diff": "", "exec": "", "export": "", "inspect": "", "kill": "",
			"logs": "", "pause": "", "port": "", "rename": "", "restart": "", "rm": "", "run": "", "start": "", "stats": "", "stop": "", "top": "",
			"unpause": "", "update": "", "wait": "",
		}, "ls, rm, logs and others are as without it"}, true
	case "volume", "network", "system":
		return family{}, true
	}
	return family{}, false
}

// find finds the command that the first words are the name of; the rest are its
// arguments.
func (c *call) find(words []string) (cmd command, rest []string, err error) {
	name, rest := words[0], words[1:]
	if name == "wall" && len(rest) > 0 && rest[0] == "diff" {
		name, rest = "wall diff", rest[1:]
	}
	if group, ok := families(name); ok && !c.runc {
		if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
			return command{}, nil, fmt.Errorf("%s needs a second word: %s", name, c.seconds(name, group))
		}
		second := rest[0]
		name, rest = name+" "+second, rest[1:]
		if alone, ok := group.alone[second]; ok {
			name = cmp.Or(alone, second)
		}
	}
	for _, cmd := range c.table() {
		if cmd.name == name {
			return cmd, rest, nil
		}
	}
	var known []string
	for _, cmd := range c.table() {
		known = append(known, cmd.name)
	}
	return command{}, nil, fmt.Errorf("unknown command %q: %sminictr help lists them", name, didYouMean(name, known))
}

// seconds are the words that may follow the first.
func (c *call) seconds(first string, group family) string {
	var list []string
	for _, cmd := range c.table() {
		if second, ok := strings.CutPrefix(cmd.name, first+" "); ok {
			list = append(list, second)
		}
	}
	text := strings.Join(list, ", ")
	if group.more != "" {
		text += "; " + group.more
	}
	return text
}

// A call is one call of a command.
type call struct {
	context.Context // of all that it waits for
	command
	globals
	flags          *pflag.FlagSet // of the command
	args           []string       // what came after them
	runc           bool           // this program was called by the name runc
	everyday       bool           // it is about a container of an image, and people have typed it
	stdout, stderr io.Writer
}

// globals are the flags before the command.
type globals struct {
	dataRoot, root    string
	mirrors, insecure []string
	version           bool
	rootGiven         bool
	log, logFormat    string
	systemdCgroup     bool
}

// Environment variables that stand for global flags.
const (
	envDataRoot = "MINICTR_DATA_ROOT"
	envRoot     = "MINICTR_ROOT"
	envMirror   = "MINICTR_MIRROR"
	envNetwork  = "MINICTR_NETWORK"
	envInsecure = "MINICTR_INSECURE_REGISTRY"
)

func (g *globals) flags() *pflag.FlagSet {
	f := newFlags()
	f.SetInterspersed(false)
	data, state := roots()
	f.StringVar(&g.dataRoot, "data-root", data, "keep images and containers' files in `DIR` [$"+envDataRoot+"]")
	f.StringVar(&g.root, "root", state, "keep the state of containers in `DIR` [$"+envRoot+"]")
	f.Var((*list)(&g.mirrors), "mirror", "ask `HOST=URL`, a mirror, before the registry HOST [$"+envMirror+"]")
	f.Var((*list)(&g.insecure), "insecure-registry", "let `HOST` not prove who it is, nor speak TLS [$"+envInsecure+"]")
	f.BoolVarP(&g.version, "version", "v", false, "print the version")
	f.StringVar(&g.log, "log", "", "write errors to `FILE`, too")
	f.StringVar(&g.logFormat, "log-format", "text", "write them in this `FORMAT`: text or json")
	f.BoolVar(&g.systemdCgroup, "systemd-cgroup", false, "have systemd make the cgroups; cgroupsPath is SLICE:PREFIX:NAME then")
	f.Bool("debug", false, "accepted, and of no effect")
	f.String("rootless", "auto", "accepted, and of no effect: true, false or auto")
	f.String("criu", "", "accepted, and of no effect")
	return f
}

// roots are where images and the state of containers are by default. A user who
// is not root has them at his own places, as the XDG base directory
// specification calls them; so has root of a user namespace, where he says so.
func roots() (data, state string) {
	data, state = engine.DefaultDataRoot, engine.DefaultRoot
	if !container.Rootless() {
		return data, state
	}
	if os.Geteuid() != 0 {
		state = fmt.Sprintf("/run/user/%d/minictr", os.Geteuid())
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		state = filepath.Join(dir, "minictr")
	}
	home, err := os.UserHomeDir()
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		data = filepath.Join(dir, "minictr")
	} else if err == nil && os.Geteuid() != 0 {
		data = filepath.Join(home, ".local/share/minictr")
	}
	return data, state
}

// environment sets what the flags have not set.
func (g *globals) environment(f *pflag.FlagSet) {
	for _, v := range [...]struct {
		name, flag string
		set        func(string)
	}{
		{envDataRoot, "data-root", func(s string) { g.dataRoot = s }},
		{envRoot, "root", func(s string) { g.root, g.rootGiven = s, true }},
		{envMirror, "mirror", func(s string) { g.mirrors = []string{s} }},
		{envInsecure, "insecure-registry", func(s string) { g.insecure = []string{s} }},
	} {
		if s := os.Getenv(v.name); s != "" && !f.Changed(v.flag) {
			v.set(s)
		}
	}
}

// dispatch does what a command line asks for.
func dispatch(c *call, args []string) error {
	if err := rootless.Stay(); err != nil {
		return err
	}
	f := c.globals.flags()
	switch err := f.Parse(doubled(f, args)); {
	case err == nil && c.version:
		return c.printVersion()
	case errors.Is(err, pflag.ErrHelp), err == nil && f.NArg() == 0:
		return c.printHelp()
	case err != nil:
		return flagError(err, f, "")
	}
	c.rootGiven = f.Changed("root")
	c.environment(f)
	if f.Arg(0) == candidates {
		return c.printCandidates(f.Args()[1:])
	}
	if f.Arg(0) == engine.MonitorCommand {
		return c.run(command{name: engine.MonitorCommand, setup: monitorCommand}, f.Args()[1:])
	}
	if f.Arg(0) == rootless.RouterCommand {
		return rootless.Route()
	}
	cmd, rest, err := c.find(f.Args())
	if err != nil {
		return err
	}
	return c.run(cmd, rest)
}

// run parses the command's flags and does what it does.
func (c *call) run(cmd command, args []string) error {
	c.command, c.flags = cmd, newFlags()
	do := cmd.setup(c.flags)
	if cmd.oci {
		args = doubled(c.flags, args)
	}
	switch err := c.flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return cmd.printHelp(c.stdout)
	case err != nil:
		return flagError(err, c.flags, " "+cmd.name)
	}
	c.args = c.flags.Args()
	if err := c.enter(); err != nil {
		return err
	}
	return do(c)
}

// doubled gives long flags that are written with one dash, as some callers of
// runtimes do, the second; what follows the first argument is not ours.
func doubled(f *pflag.FlagSet, args []string) []string {
	args = slices.Clone(args)
	for i := 0; i < len(args) && strings.HasPrefix(args[i], "-") && args[i] != "--"; i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		flag := f.Lookup(name)
		if len(name) == 1 {
			flag = f.ShorthandLookup(name)
		} else if flag != nil {
			args[i] = "--" + strings.TrimLeft(args[i], "-")
		}
		if flag != nil && flag.NoOptDefVal == "" && !hasValue {
			i++ // the next is its value
		}
	}
	return args
}

// runtime keeps the containers of the global flags. What is no error goes to
// standard error, but not where a caller reads the log, and wants one error in
// it and nothing else.
func (c *call) runtime() *container.Runtime {
	r := &container.Runtime{Root: c.root, Units: systemd.Units{}}
	if c.log == "" {
		r.Warn = func(err error) { fmt.Fprintf(c.stderr, "minictr: warning: %v\n", err) }
	}
	return r
}

// engine is the engine that the global flags ask for.
func (c *call) engine() (*engine.Engine, error) {
	if _, err := mirrorsOf(words(c.mirrors)); err != nil {
		return nil, err
	}
	return &engine.Engine{
		Root:       c.dataRoot,
		Runtime:    *c.runtime(),
		Registries: c.registries,
		Limits: func() (image.Limits, error) {
			f, err := readRegistries()
			return f.Limits, err
		},
		Progress: func() (func(image.Progress), func() error) { return c.progress(false, false) },
		Messages: c.stderr,
	}, nil
}

// exactly checks the number of arguments.
func (c *call) exactly(n int, what string) error {
	switch {
	case len(c.args) == n:
		return nil
	case n == 0:
		return fmt.Errorf("%s takes no arguments", c.name)
	}
	return fmt.Errorf("%s requires exactly %d argument(s): minictr %[1]s %[3]s", c.name, n, what)
}

// each does something with each argument, whatever became of the others, and
// prints those that it was done with.
func (c *call) each(do func(string) error) (err error) {
	for _, name := range c.args {
		e := do(name)
		if e == nil {
			_, e = fmt.Fprintln(c.stdout, name)
		}
		err = errors.Join(err, e)
	}
	return err
}

// words are the values of a flag that may be given several times, or once with
// commas between the values.
func words(values []string) (list []string) {
	for _, value := range values {
		list = append(list, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
	}
	return list
}

// list is a flag that may be given again and again. The library's own makes a
// CSV writer for each such flag, at every start.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }
func (l *list) Type() string       { return "list" }
