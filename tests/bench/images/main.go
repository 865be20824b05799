// Command images measures how long it takes to pull an image from a registry
// on this machine into an empty store, what that costs in processor time and
// memory, and how containerd and Podman do the same. All take turns, in an
// order that is shuffled anew each round, each on a file system of its own.
//
//	go run ./tests/bench/images -cache DIR [-n ROUNDS] [-disk DIR] [-small] [-only PATTERN] [-calls]
//
// It needs root, Debian's packages docker-registry, mmdebstrap, containerd,
// podman, strace and zstd, and, in DIR, some 15 GB. ../README.md tells how to
// read what it prints.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

const inside = "MINICTR_BENCH_INSIDE" // set where the mounts are private

// A bench is all that this program makes on the machine. The cache stays.
type bench struct {
	cache  string // images, made once
	disk   string // the file with the file system for a store
	dir    string // programs, sockets, mount points
	cgroup string // whose processor time is counted
	small  bool
	host   string // of the registry
}

func main() {
	rounds := flag.Int("n", 5, "`rounds` of all images and tools")
	cache := flag.String("cache", "", "`directory` for the images, which are made once")
	disk := flag.String("disk", "", "`directory` for the file that the stores are on; without it, that of -cache")
	small := flag.Bool("small", false, "small images: to see that everything works")
	only := flag.String("only", "", "only the images whose names match the `pattern`")
	calls := flag.Bool("calls", false, "count the system calls for a plain file instead")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	switch {
	case err != nil:
	case os.Getuid() != 0 || *cache == "" && !*calls:
		err = errors.New("needs root, and -cache DIR")
	case os.Getenv(inside) == "":
		err = enter()
	case *calls:
		err = bench{small: *small}.within(bench.countCalls)
	default:
		err = bench{cache: *cache, disk: cmp.Or(*disk, *cache), small: *small}.within(func(b bench) error { return b.measure(pattern, *rounds) })
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && os.Getenv(inside) == "" {
		os.Exit(1) // it has said why
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "tests/bench/images:", err)
		os.Exit(1)
	}
}

// enter runs this program again, in a mount namespace of its own: whatever
// ends it, its mounts end as well, and the loop device with them.
func enter() error {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd.Run()
}

// within makes what a bench needs, and takes it away.
func (b bench) within(do func(bench) error) (err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "minictr-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", b.dir+"/minictr", "./cmd/minictr")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	if b.cache != "" {
		if b.cache, err = filepath.Abs(b.cache); err != nil {
			return err
		}
		if err := os.MkdirAll(b.cache, 0o755); err != nil {
			return err
		}
		b.disk = filepath.Join(b.disk, fmt.Sprintf("minictr-bench-%d.ext4", os.Getpid()))
	}
	if b.cgroup, err = makeCgroup(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Rmdir(b.cgroup)) }()
	return do(b)
}

// measure has all tools pull all images.
func (b bench) measure(pattern *regexp.Regexp, rounds int) error {
	registry, err := b.serve()
	if err != nil {
		return err
	}
	defer end(registry)
	names, err := b.images(pattern)
	if err != nil {
		return err
	}
	type turn struct{ name, tool string }
	var turns []turn
	for _, name := range names {
		for _, tool := range tools {
			turns = append(turns, turn{name, tool.name})
		}
	}
	costs := map[turn][]cost{}
	for round := range rounds {
		rand.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
		for _, turn := range turns {
			i := slices.IndexFunc(tools, func(t tool) bool { return t.name == turn.tool })
			c, err := b.pull(tools[i], turn.name)
			if err != nil {
				return fmt.Errorf("%s pulls %s: %w", turn.tool, turn.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s: %v\n", round+1, rounds, turn.name, turn.tool, c)
			costs[turn] = append(costs[turn], c)
		}
	}
	fmt.Printf("%d rounds; medians, and in brackets how many times minictr's:\n\n", rounds)
	fmt.Println("| image | tool | until it is there, s | until on the disk, s | processor, s | memory, MB |")
	fmt.Println("|---|---|--:|--:|--:|--:|")
	for _, name := range names {
		ours := median(costs[turn{name, tools[0].name}])
		for _, tool := range tools {
			c := median(costs[turn{name, tool.name}])
			fmt.Printf("| %s | %s |", name, tool.name)
			for i := range c {
				fmt.Printf(" %.2f (%.2f) |", c[i], c[i]/ours[i])
			}
			fmt.Println()
		}
	}
	return nil
}

// A cost is what one pull took: seconds until the tool was done, and until all
// was on the disk; seconds of processors; and megabytes of memory at most.
type cost [4]float64

func median(all []cost) (m cost) {
	for i := range m {
		var values []float64
		for _, c := range all {
			values = append(values, c[i])
		}
		slices.Sort(values)
		m[i] = values[len(values)/2]
	}
	return m
}
