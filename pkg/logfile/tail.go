package logfile

import "bytes"

// A tally counts lines from the last one on.
type tally struct {
	left   int
	inside [2]bool // a line of standard output, and error, whose beginning may come yet
}

// full says whether a record, which comes before those that were counted, belongs
// to one line too many.
func (t *tally) full(r Record) bool {
	inside := &t.inside[0]
	if r.Stream != stdout {
		inside = &t.inside[1]
	}
	if !r.Partial || !*inside {
		t.left--
	}
	*inside = true
	return t.left < 0
}

// tail sets the reader to where the last lines begin, reading backward. A line
// of the one stream that began before lines of the other may miss its beginning.
func (r *reader) tail(t tally) error {
	for {
		older, err := r.files.open(r.file, true)
		if older == nil {
			return err
		}
		_ = r.file.Close() // nothing was written
		r.file = older
		if r.offset, err = r.back(&t); r.offset > 0 || err != nil {
			return err
		}
	}
}

// back says where in the file the last lines begin: at 0 there may be more
// before it.
func (r *reader) back(t *tally) (int64, error) {
	file, err := r.file.Stat()
	if err != nil {
		return 0, err
	}
	for end := file.Size(); end > 0; {
		start := max(end-int64(len(r.block)), 0)
		block := r.block[:end-start]
		if _, err := r.file.ReadAt(block, start); err != nil {
			return 0, err
		}
		whole := bytes.LastIndexByte(block, '\n') + 1
		for whole > 0 {
			first := bytes.LastIndexByte(block[:whole-1], '\n') + 1
			if first == 0 && start > 0 && whole < len(block) {
				break // it may begin in another block
			}
			record, ok := parse(block[first : whole-1])
			if !ok {
				record = Record{Stream: stderr}
			}
			if t.full(record) {
				return start + int64(whole), nil
			}
			whole = first
		}
		end = start + int64(whole)
	}
	return 0, nil
}
