// Command bench measures how long it takes from the start of a runtime to the
// end of a container that runs true, against other runtimes, and against a
// floor: the same calls in C. All cases take turns, in an order that is
// shuffled anew each round, on the same bundle.
//
//	go run ./tests/bench [-n ROUNDS] [-paused ROUNDS]
//
// It needs root, and the runtimes that it should compare with. README.md here
// tells how to read what it prints.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inside  = "MINICTR_BENCH_INSIDE" // set where the mounts are private
	unified = "/sys/fs/cgroup/unified"
	pause   = 60 * time.Millisecond
)

func main() {
	rounds := flag.Int("n", 100, "`rounds` back to back")
	paused := flag.Int("paused", 40, "`rounds` with a pause of 60 ms before each run")
	machine := flag.Bool("vm", false, "measure in a virtual machine, where cgroup is v2 alone")
	flag.Parse()
	var err error
	switch {
	case *machine:
		err = measureInMachine(*rounds, *paused)
	case os.Getenv(inside) == "":
		err = enter()
	default:
		err = measure(*rounds, *paused)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(1) // it has said why
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "tests/bench:", err)
		os.Exit(1)
	}
}

// enter runs this program again, in a mount namespace of its own.
func enter() error {
	if os.Getuid() != 0 {
		return errors.New("needs root")
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd.Run()
}

// measure prepares, measures and cleans up.
func measure(rounds, paused int) (err error) {
	// crun refuses a hybrid host, so for all runtimes it is one of cgroup v1.
	var st unix.Statfs_t
	if unix.Statfs(unified, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		if err := unix.Mount("tmpfs", unified, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", unified, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	p := place{cgroup: fmt.Sprintf("minictr-bench-%d", os.Getpid())}
	p.state = filepath.Join("/run", p.cgroup)
	if p.dir, err = os.MkdirTemp("", "minictr-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	cases, err := p.prepare()
	if err != nil {
		return err
	}
	for _, c := range cases {
		if _, err := c.run(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	describe()
	stays, err := p.stay()
	defer func() { err = errors.Join(err, p.leave(stays)) }()
	if err != nil {
		return err
	}
	cases = append(cases, stays...)
	for _, series := range []struct {
		title  string
		rounds int
		pause  time.Duration
	}{{"back to back", rounds, 0}, {"with a pause of 60 ms before each run", paused, pause}} {
		times, err := race(cases, series.rounds, series.pause)
		if err != nil {
			return err
		}
		fmt.Printf("\n%d rounds, %s:\n\n", series.rounds, series.title)
		table(cases, times)
	}
	return nil
}

// describe tells on what machine the numbers were made.
func describe() {
	var name unix.Utsname
	_ = unix.Uname(&name)
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	_, model, _ := strings.Cut(string(cpu), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	fmt.Printf("Linux %s, %d × %s, %s\n", unix.ByteSliceToString(name.Release[:]),
		strings.Count(string(cpu), "processor\t:"), model, time.Now().Format(time.DateOnly))
}

// A place is all that this program makes on the machine.
type place struct {
	dir    string // programs and bundles
	state  string // of the runtimes, on a tmpfs as by default
	cgroup string // below the root of each hierarchy
}

// hierarchies are the directories where cgroup hierarchies are mounted.
func hierarchies() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	var list []string
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, dir := range dirs {
		var st unix.Statfs_t
		// "cpu" may be a link to "cpu,cpuacct".
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP_SUPER_MAGIC {
			list = append(list, dir)
		}
	}
	return list
}

// makeCgroup makes the cgroup that holds those of all runs.
func (p place) makeCgroup() error {
	for _, h := range hierarchies() {
		dir := filepath.Join(h, p.cgroup)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(h, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := errors.Join(err, os.WriteFile(filepath.Join(dir, name), value, 0)); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes everything away, also what a runtime has left.
func (p place) remove() error {
	err := errors.Join(os.RemoveAll(p.dir), unix.Unmount(p.state, 0), os.Remove(p.state))
	for _, h := range hierarchies() {
		left, _ := filepath.Glob(filepath.Join(h, p.cgroup, "*/"))
		for _, dir := range append(left, filepath.Join(h, p.cgroup)) {
			if info, e := os.Stat(dir); e == nil && info.IsDir() {
				err = errors.Join(err, unix.Rmdir(dir))
			}
		}
	}
	return err
}
