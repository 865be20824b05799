package logfile

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A chain is the files of a log, by the name of the newest: log, log.1, log.2.
// Its writer only ever renames a file to a greater number, the oldest first, or
// over the oldest. So they keep their order, and who has the same number at two
// moments has had it all the time between.
type chain string

func (c chain) name(number int) string {
	if number == 0 {
		return string(c)
	}
	return string(c) + "." + strconv.Itoa(number)
}

// numbers lists the files that there are, the newest first. A writer that was
// killed may have left a gap.
func (c chain) numbers() (list []int, err error) {
	base := filepath.Base(string(c))
	entries, err := os.ReadDir(filepath.Dir(string(c)))
	for _, e := range entries {
		number, _ := strconv.Atoi(strings.TrimPrefix(e.Name(), base+".")) // 0: log, or what the next line finds
		if number >= 0 && e.Name() == filepath.Base(c.name(number)) {
			list = append(list, number)
		}
	}
	slices.Sort(list)
	return list, err
}

// Where a file is that has been removed, and who has no file yet.
const (
	beyondOldest = math.MaxInt
	beyondNewest = -1
)

// find says which number a file has now.
func (c chain) find(f *os.File) (int, error) {
	var own, other unix.Stat_t
	for range 100 { // it may be renamed between two calls; or somebody has linked it to another name
		numbers, err := c.numbers()
		if err != nil {
			return 0, err
		}
		if err := unix.Fstat(int(f.Fd()), &own); err != nil {
			return 0, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
		}
		for _, number := range numbers {
			if unix.Stat(c.name(number), &other) == nil && other.Ino == own.Ino && other.Dev == own.Dev {
				return number, nil
			}
		}
		if own.Nlink == 0 {
			break
		}
	}
	return beyondOldest, nil
}

// pick says which file comes before the file f in time, or after it: the number
// is negative if there is none. Without f it is the newest, or the oldest.
func (c chain) pick(f *os.File, older bool) (at, number int, err error) {
	at = beyondOldest
	switch {
	case f != nil:
		at, err = c.find(f)
	case older:
		at = beyondNewest
	}
	numbers, e := c.numbers()
	i, _ := slices.BinarySearch(numbers, at)
	switch {
	case older && i < len(numbers) && numbers[i] == at:
		i++
	case !older:
		i--
	}
	if err = errors.Join(err, e); err != nil || i < 0 || i >= len(numbers) {
		return at, -1, err
	}
	return at, numbers[i], nil
}

// open opens the file that pick finds; it is nil if there is none.
func (c chain) open(f *os.File, older bool) (*os.File, error) {
	for {
		at, number, err := c.pick(f, older)
		if err != nil || number < 0 {
			return nil, err
		}
		next, err := os.Open(c.name(number))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being renamed
		}
		if err != nil {
			return nil, err
		}
		// If this is so still, then it was so all the time.
		if still, same, err := c.pick(f, older); err == nil && still == at && same == number {
			return next, nil
		}
		_ = next.Close() // nothing was written
	}
}
