package vm_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An initramfs is an archive in the "newc" format, which the kernel unpacks
// into its first root: driver-api/early-userspace/buffer-format.rst.
type initramfs struct {
	bytes.Buffer
	inode int
}

func (a *initramfs) add(name string, mode int, data []byte) {
	a.inode++
	_, _ = fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.Write(data)
	a.pad()
}

// pad fills up to a multiple of four.
func (a *initramfs) pad() { a.Write(make([]byte, -a.Len()&3)) }

func (a *initramfs) dir(name string) { a.add(name, 0o040755, nil) }

func (a *initramfs) file(name, path string) error {
	data, err := os.ReadFile(path)
	if err == nil {
		a.add(name, 0o100755, data)
	}
	return err
}

// tree adds a directory with all that is in it.
func (a *initramfs) tree(name, path string) error {
	return filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			a.dir(filepath.Join(name, relative))
			return nil
		}
		return a.file(filepath.Join(name, relative), p)
	})
}

func (a *initramfs) end() []byte {
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes()
}
