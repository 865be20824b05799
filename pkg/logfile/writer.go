package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/sys"
)

// maxWrite bounds the records that are written at once: a monitor is small.
const maxWrite = 32 << 10

// A Rotation says how much of a log is kept.
type Rotation struct {
	MaxSize  int64 // of a file, in bytes; 0: there is one file, without bound
	MaxFiles int   // log, log.1, ...; less than 2: only log, which begins anew
}

// A Writer writes a log. What can't be written, to a disk that is full, is
// counted and dropped, and a record of standard error tells of it as soon as
// one can be written: a program never waits for its log.
type Writer struct {
	path     chain
	rotation Rotation

	mu      sync.Mutex
	fd      int    // negative when it has to be opened
	size    int64  // of the file
	records []byte // not written yet; never moved
	lost    int64  // bytes of the program
	why     error  // the last of them were lost
}

// Open opens a log, or makes it, with mode 0600. If its last writer was killed
// in the middle of a record, that is cut off.
func Open(path string, r Rotation) (*Writer, error) {
	w := &Writer{path: chain(path), rotation: r, fd: -1, records: make([]byte, 0, maxWrite)}
	if err := w.open(); err != nil {
		return nil, fmt.Errorf("log %s: %w", path, err)
	}
	return w, nil
}

// Stream is where the program's "stdout" or "stderr" is written to. Each Write
// is in the file when it returns, by one write(2) if its records fit in 32 kB:
// whole lines, and what comes after the last newline as a piece of a line. It
// never fails. Streams may be written to at the same time.
func (w *Writer) Stream(name string) io.Writer { return &stream{w, name} }

type stream struct {
	w    *Writer
	name string
}

func (s *stream) Write(p []byte) (int, error) {
	w, n := s.w, len(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	var room [len(layout)]byte
	stamp := time.Now().UTC().AppendFormat(room[:0], layout)
	for len(p) > 0 {
		end := bytes.IndexByte(p[:min(len(p), maxText+1)], '\n')
		if end >= 0 {
			w.add(stamp, s.name, false, p[:end])
			p = p[end+1:]
			continue
		}
		end = min(len(p), maxText)
		w.add(stamp, s.name, true, p[:end])
		p = p[end:]
	}
	w.flush()
	return n, nil
}

// add puts a record to those that are to be written; a file of any size takes them.
func (w *Writer) add(stamp []byte, stream string, partial bool, text []byte) {
	limit := int64(maxWrite)
	if w.rotation.MaxSize > 0 {
		limit = min(limit, w.rotation.MaxSize)
	}
	if size := len(stamp) + len(stream) + len(text) + len("  F \n"); int64(len(w.records)+size) > limit {
		w.flush()
	}
	w.records = appendRecord(w.records, stamp, stream, partial, text)
}

// flush writes the records, or counts what is lost.
func (w *Writer) flush() {
	kept, err := 0, w.tell()
	if err == nil {
		kept, err = w.write(w.records)
	}
	if err != nil {
		w.why = errors.Unwrap(err) // the errno
		for line := range bytes.Lines(w.records[kept:]) {
			r, _ := parse(line)
			w.lost += int64(len(r.Text))
			if r.Partial {
				w.lost-- // the newline is the record's
			}
		}
	}
	w.records = w.records[:0]
}

// tell writes down how much was lost.
func (w *Writer) tell() error {
	if w.lost == 0 {
		return nil
	}
	var room [len(layout)]byte
	text := append(strconv.AppendInt([]byte("minictr: "), w.lost, 10), " bytes of output were lost: "...)
	text = append(text, w.why.Error()...)
	_, err := w.write(appendRecord(nil, time.Now().UTC().AppendFormat(room[:0], layout), stderr, false, text))
	if err == nil {
		w.lost = 0
	}
	return err
}

// write writes records to one file, and says how many bytes of whole ones are
// there now. After an error the next one opens the file again, which cuts off
// what is no whole record.
func (w *Writer) write(records []byte) (kept int, err error) {
	if w.fd < 0 {
		err = w.open()
	}
	if most := w.rotation.MaxSize; err == nil && most > 0 && w.size > 0 && w.size+int64(len(records)) > most {
		w.close()
		if err = w.rotate(); err == nil {
			err = w.open()
		}
	}
	n := 0
	for err == nil && n < len(records) {
		var more int
		more, err = sys.Number("write", func() (int, error) { return unix.Write(w.fd, records[n:]) })
		n += max(more, 0)
	}
	w.size += int64(n)
	if err != nil {
		w.close()
	}
	return bytes.LastIndexByte(records[:n], '\n') + 1, err
}

// rotate renames the files up to the first number that is free or the last that
// may be, the oldest first.
func (w *Writer) rotate() (err error) {
	if w.rotation.MaxFiles < 2 {
		err = sys.Call("unlink", func() error { return unix.Unlink(w.path.name(0)) })
	} else {
		last := 1
		for last < w.rotation.MaxFiles-1 && unix.Access(w.path.name(last), unix.F_OK) == nil {
			last++
		}
		for i := last; i > 0 && err == nil; i-- {
			err = sys.Call("rename", func() error { return unix.Rename(w.path.name(i-1), w.path.name(i)) })
		}
	}
	if errors.Is(err, unix.ENOENT) { // somebody has removed it
		return nil
	}
	return err
}

func (w *Writer) open() (err error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_APPEND | unix.O_NOFOLLOW | unix.O_CLOEXEC
	w.fd, err = sys.Number("open", func() (int, error) { return unix.Open(w.path.name(0), flags, 0o600) })
	if err != nil {
		return err
	}
	var file unix.Stat_t
	err = sys.Call("fstat", func() error { return unix.Fstat(w.fd, &file) })
	if err == nil {
		w.size, err = w.whole(file.Size)
	}
	if err == nil && w.size < file.Size {
		err = sys.Call("ftruncate", func() error { return unix.Ftruncate(w.fd, w.size) })
	}
	if err != nil {
		w.close()
	}
	return err
}

// whole says where in a file of that size the last whole record ends.
func (w *Writer) whole(size int64) (int64, error) {
	var block [512]byte
	for size > 0 {
		start := max(size-int64(len(block)), 0)
		n, err := sys.Number("pread", func() (int, error) { return unix.Pread(w.fd, block[:size-start], start) })
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		size = start
	}
	return 0, nil
}

func (w *Writer) close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd) // each write was checked
	}
	w.fd = -1
}

// Close writes down what was lost, and closes the file. Its error says what
// could not be told in the log. Nothing may be written after it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.tell()
	w.close()
	if err != nil {
		return fmt.Errorf("log %s: %d bytes of output were lost: %w", w.path, w.lost, err)
	}
	return nil
}

// Copy writes what comes from two descriptors, the ends of pipes or a terminal's
// master, as the streams stdout and stderr, until both have ended: nobody has
// their other ends open. A negative one has none.
func (w *Writer) Copy(out, err int) (failed error) {
	from := []unix.PollFd{{Fd: int32(out), Events: unix.POLLIN}, {Fd: int32(err), Events: unix.POLLIN}}
	to := []io.Writer{w.Stream(stdout), w.Stream(stderr)}
	buf := make([]byte, 8<<10)
	for from[0].Fd >= 0 || from[1].Fd >= 0 {
		if _, err := sys.Number("poll", func() (int, error) { return unix.Poll(from, -1) }); err != nil {
			return errors.Join(failed, err)
		}
		for i := range from {
			if from[i].Revents == 0 {
				continue
			}
			n, err := sys.Number("read", func() (int, error) { return unix.Read(int(from[i].Fd), buf) })
			switch {
			case n > 0:
				_, _ = to[i].Write(buf[:n]) // it never fails
			case errors.Is(err, unix.EAGAIN):
			default:
				from[i].Fd = -1
				if err != nil && !errors.Is(err, unix.EIO) { // which is how a terminal ends
					failed = errors.Join(failed, err)
				}
			}
		}
	}
	return failed
}
