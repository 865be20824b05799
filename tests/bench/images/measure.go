package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func replace(s string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(s) }

// makeCgroup makes a cgroup that counts processor time.
func makeCgroup() (string, error) {
	top := "/sys/fs/cgroup/cpuacct"
	if _, err := os.Stat(top); err != nil {
		top = "/sys/fs/cgroup"
	}
	dir := filepath.Join(top, fmt.Sprintf("minictr-bench-%d", os.Getpid()))
	return dir, os.Mkdir(dir, 0o755)
}

// processor is the time that processes of the cgroup have had, those that have
// ended among them.
func (b bench) processor() (time.Duration, error) {
	text, err := os.ReadFile(b.cgroup + "/cpuacct.usage")
	if err != nil {
		if text, err = os.ReadFile(b.cgroup + "/cpu.stat"); err != nil {
			return 0, err
		}
		_, usage, _ := strings.Cut(string(text), "usage_usec ")
		usage, _, _ = strings.Cut(usage, "\n")
		text = []byte(usage + "000")
	}
	return time.ParseDuration(strings.TrimSpace(string(text)) + "ns")
}

// memory is what the processes of the cgroup hold now, together.
func (b bench) memory() (bytes int64) {
	list, _ := os.ReadFile(b.cgroup + "/cgroup.procs")
	for pid := range strings.FieldsSeq(string(list)) {
		var size, resident int64
		text, _ := os.ReadFile("/proc/" + pid + "/statm")
		_, _ = fmt.Sscan(string(text), &size, &resident) // it may have ended
		bytes += resident * int64(os.Getpagesize())
	}
	return bytes
}

// watch runs a command to its end. Memory is looked at every few milliseconds.
func (b bench) watch(cmd *exec.Cmd, mnt string) (c cost, err error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before, err := b.processor()
	if err != nil {
		return c, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return c, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var most int64
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-time.After(5 * time.Millisecond):
			most = max(most, b.memory())
		}
	}
	c[0] = time.Since(start).Seconds()
	if err != nil {
		return c, fmt.Errorf("%w\n%s", err, &out)
	}
	after, err := b.processor()
	err = errors.Join(err, sync(mnt))
	c[1], c[2], c[3] = time.Since(start).Seconds(), (after - before).Seconds(), float64(most)/1e6
	return c, err
}

// sync writes a file system to its disk.
func sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// warm empties the page cache, and fills it with the image's blobs, so that
// the registry needs no disk.
func (b bench) warm(image string) error {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	blobs, err := os.ReadFile(b.marker(image))
	if err != nil {
		return err
	}
	for digest := range strings.FieldsSeq(string(blobs)) {
		f, err := os.Open(filepath.Join(b.cache, "registry/docker/registry/v2/blobs/sha256", digest[:2], digest, "data"))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
