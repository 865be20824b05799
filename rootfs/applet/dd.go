package applet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// A copyJob is what the operands of dd ask for.
type copyJob struct {
	in, out                string
	block, count           int64 // count -1 is all
	skip, seek             int64 // blocks
	noTruncate, sync, mute bool
}

func parseDD(args []string) (copyJob, error) {
	job := copyJob{block: 512, count: -1}
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		var err error
		switch key {
		case "if":
			job.in = value
		case "of":
			job.out = value
		case "bs":
			job.block, err = size(value)
		case "count":
			job.count, err = size(value)
		case "skip":
			job.skip, err = size(value)
		case "seek":
			job.seek, err = size(value)
		case "conv":
			job.noTruncate = strings.Contains(value, "notrunc")
			job.sync = strings.Contains(value, "sync")
		case "status":
			job.mute = value == "none"
		default:
			ok = false
		}
		if err != nil || !ok {
			return job, errors.Join(fmt.Errorf("%q is no operand of dd", a), err)
		}
	}
	if job.block <= 0 || job.block > 1<<30 {
		return job, fmt.Errorf("bs=%d: want 1 to 1G", job.block)
	}
	return job, nil
}

// dd copies blocks: if= of= bs= count= skip= seek= conv=notrunc,fsync status=none.
func dd(std Stdio, args []string) error {
	job, err := parseDD(args[1:])
	if err != nil {
		return err
	}
	in, out := std.In, std.Out
	if job.in != "" {
		f, err := os.Open(job.in)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
		if _, err := f.Seek(job.skip*job.block, io.SeekStart); job.skip > 0 && err != nil {
			return err
		}
	}
	var file *os.File
	if job.out != "" {
		flags := os.O_CREATE | os.O_WRONLY
		if !job.noTruncate && job.seek == 0 {
			flags |= os.O_TRUNC
		}
		if file, err = os.OpenFile(job.out, flags, 0o666); err != nil {
			return err
		}
		out = file
		if _, err := file.Seek(job.seek*job.block, io.SeekStart); job.seek > 0 && err != nil {
			return errors.Join(err, file.Close())
		}
	}
	start := time.Now()
	n, err := job.copy(out, in)
	if file != nil {
		if job.sync {
			err = errors.Join(err, file.Sync())
		}
		err = errors.Join(err, file.Close())
	}
	if !job.mute {
		fmt.Fprintf(std.Err, "%d bytes (%s) copied, %.3f s\n", n, human(uint64(n)), time.Since(start).Seconds())
	}
	return err
}

func (job *copyJob) copy(out io.Writer, in io.Reader) (written int64, err error) {
	block := make([]byte, job.block)
	for i := int64(0); i != job.count; i++ {
		n, err := io.ReadFull(in, block)
		m, writeErr := out.Write(block[:n])
		written += int64(m)
		if writeErr != nil {
			return written, writeErr
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// burnCPU keeps every CPU that it may use busy: burn-cpu [SECONDS], 10 if not
// given. A quota shows as throttling, never as fewer CPUs.
func burnCPU(std Stdio, args []string) error {
	length := 10 * time.Second
	if len(args) > 1 {
		var err error
		if length, err = seconds(args[1]); err != nil {
			return err
		}
	}
	fmt.Fprintf(std.Out, "burning %d CPUs for %v\n", runtime.NumCPU(), length)
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for time.Now().Before(end) {
			}
		})
	}
	wg.Wait()
	return nil
}

// burnDisk writes, and makes sure that the disk has it, and deletes:
// burn-disk [MEGABYTES [FILE]], 64 MB in the working directory if not given.
func burnDisk(std Stdio, args []string) (err error) {
	megabytes, name := int64(64), ".burn-disk"
	if len(args) > 1 {
		if megabytes, err = size(args[1]); err != nil {
			return err
		}
	}
	if len(args) > 2 {
		name = cmp.Or(args[2], name)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
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
	_, err = fmt.Fprintf(std.Out, "%d MB in %.2f s, %.0f MB/s\n", megabytes, took, float64(megabytes)/took)
	return err
}
