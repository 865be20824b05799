package applet

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// burnCPU keeps every CPU that it may use busy, for 10 seconds if not told
// otherwise. A quota shows as throttling, never as fewer CPUs.
func burnCPU(c *call) error {
	seconds, err := size(append(c.Args, "10")[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "burning %d CPUs for %d s\n", runtime.NumCPU(), seconds)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			for time.Now().Before(end) {
			}
		})
	}
	all.Wait()
	return nil
}

// burnDisk writes to a file that has no name any more, and makes sure that
// the disk has it: 64 MB in the working directory if not told otherwise.
func burnDisk(c *call) error {
	megabytes, err := size(append(c.Args, "64")[0])
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(".", "burn-disk-")
	if err != nil {
		return err
	}
	defer f.Close() // which frees it all
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	start, block := time.Now(), make([]byte, 1<<20)
	for range megabytes {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	fmt.Fprintf(c.out, "%d MB in %.2f s, %.0f MB/s\n", megabytes, took, float64(megabytes)/took)
	return nil
}
