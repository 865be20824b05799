package logfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Options say which records are read.
type Options struct {
	Follow       bool        // go on with what is written later
	Tail         int         // only so many lines of what there is; negative: all
	Since, Until time.Time   // only records of these times; zero: any
	Ended        func() bool // Follow ends when this says that nobody writes any more; nil: it never does

	idle func() error // called before waiting
}

// patience is how long a reader waits, in milliseconds, if inotify(7) tells
// nothing: it may not be to be had, or there is news of other kinds.
const patience = 100

// Read reads a log, the oldest file first, and calls emit with each record,
// whose Text is valid until emit returns. What is being written or was only half
// written is no record. What is no record but a line is one of standard error,
// with the time of the one before. Nothing is read twice, and nothing is left
// out but files that rotate away before they are reached. Without Follow it ends
// with what was there at the beginning. A log that is not there yet is empty.
// When ctx is done, that is the error.
func Read(ctx context.Context, path string, o Options, emit func(Record) error) error {
	r := reader{Options: o, files: chain(path), emit: emit, block: make([]byte, maxWrite), events: -1}
	defer r.close()
	if o.Follow {
		r.watch(filepath.Dir(path))
	} else {
		r.last, _ = os.Stat(path) // without it there is nothing to end with
	}
	if o.Tail >= 0 {
		if err := r.tail(tally{left: o.Tail}); err != nil {
			return err
		}
	}
	err := r.read(ctx)
	if errors.Is(err, fs.ErrNotExist) && r.file != nil {
		return nil // the log's directory was removed
	}
	return err
}

type reader struct {
	Options
	files chain
	emit  func(Record) error

	file   *os.File    // nil before the first
	next   *os.File    // the one after it, once there is one: then nobody writes to file any more
	offset int64       // of the next record in file
	time   time.Time   // of the last record
	block  []byte      // holds a whole record
	last   os.FileInfo // the file to end with, if not nil
	events int         // descriptor of inotify(7), negative if there is none
}

func (r *reader) close() {
	// Nothing was written to any of them.
	_ = r.file.Close()
	_ = r.next.Close()
	_ = unix.Close(r.events)
}

func (r *reader) read(ctx context.Context) error {
	for ended := false; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := r.step()
		switch {
		case err != nil:
			return err
		case more && !r.atLast():
			continue
		case !r.Follow || ended:
			return nil
		}
		// What was written before the end, but after the step, comes yet.
		ended = r.Ended != nil && r.Ended() || !r.Until.IsZero() && time.Now().After(r.Until)
		if !ended {
			err = r.wait()
		}
		if err != nil {
			return err
		}
	}
}

// step reads a block of the file, or goes on to the next file. It says whether
// there may be more.
func (r *reader) step() (bool, error) {
	if r.file != nil {
		if n, err := r.records(); n > 0 || err != nil {
			return true, err
		}
	}
	if r.next == nil { // what the file has got before that one was made is read first
		next, err := r.files.open(r.file, false)
		r.next = next
		return next != nil, err
	}
	_ = r.file.Close() // nothing was written
	r.file, r.next, r.offset = r.next, nil, 0
	return true, nil
}

// atLast says whether the file to end with is read as far as it went.
func (r *reader) atLast() bool {
	if r.last == nil || r.file == nil || r.offset < r.last.Size() {
		return false
	}
	now, err := r.file.Stat()
	return err == nil && os.SameFile(now, r.last)
}

// records emits the whole records of the next block, and says how many bytes
// they are. A half one is read again, for its writer may cut it off.
func (r *reader) records() (int, error) {
	n, err := r.file.ReadAt(r.block, r.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	whole := bytes.LastIndexByte(r.block[:n], '\n') + 1
	if whole == 0 && n == len(r.block) {
		whole = n // longer than any record
	}
	for line := range bytes.Lines(r.block[:whole]) {
		if err := r.line(line); err != nil {
			return 0, err
		}
	}
	r.offset += int64(whole)
	return whole, nil
}

func (r *reader) line(line []byte) error {
	text, ends := bytes.CutSuffix(line, []byte("\n"))
	record, ok := parse(text)
	if !ok {
		record = Record{r.time, stderr, text, false}
	}
	record.Partial = record.Partial || !ends
	r.time = record.Time
	if r.time.Before(r.Since) || !r.Until.IsZero() && r.time.After(r.Until) {
		return nil
	}
	return r.emit(record)
}

// watch asks inotify(7) for what happens in a directory. A failure makes
// reading slower, no more.
func (r *reader) watch(dir string) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return
	}
	r.events = fd
	_, _ = unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_MOVED_TO)
}

// wait waits until something has happened, or might have.
func (r *reader) wait() error {
	if r.idle != nil {
		if err := r.idle(); err != nil {
			return err
		}
	}
	poll := []unix.PollFd{{Fd: int32(r.events), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, patience); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	if r.events >= 0 {
		_, _ = unix.Read(r.events, r.block) // what has happened is seen in the files
	}
	return nil
}
