package vm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"
)

// A Kernel is an image that QEMU boots, and the directory of its modules.
type Kernel struct {
	Image   string // "/boot/vmlinuz-6.1.0-9-cloud-amd64"
	Modules string // "/lib/modules/6.1.0-9-cloud-amd64"; "" if there are none
}

// ErrNoKernel says that there is no kernel to boot.
var ErrNoKernel = errors.New("vm: no kernel image was found")

// kernelPrefix begins the name of a kernel's image; its release follows. In the
// directory of its modules it has kernelName.
const kernelPrefix, kernelName = "vmlinuz-", "vmlinuz"

// FindKernel returns the kernel of an image file, or, if there is no name, the
// newest one of this system that can be read.
func FindKernel(file string) (Kernel, error) {
	if file != "" {
		if f, err := os.Open(file); err != nil {
			return Kernel{}, err
		} else if err := f.Close(); err != nil {
			return Kernel{}, err
		}
		return kernelOf(file), nil
	}
	for _, dir := range []string{CacheDir(), "/"} {
		var images []string
		for _, pattern := range []string{"boot/" + kernelPrefix + "*", "usr/lib/modules/*/" + kernelName} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern)) // it is a good one
			images = append(images, found...)
		}
		slices.SortFunc(images, func(a, b string) int { return compareReleases(b, a) })
		for _, image := range images {
			if f, err := os.Open(image); err == nil {
				return kernelOf(image), f.Close()
			}
		}
	}
	return Kernel{}, ErrNoKernel
}

// CacheDir holds kernels that are there for virtual machines only, as a
// package would install them: boot/vmlinuz-RELEASE and lib/modules/RELEASE.
func CacheDir() string {
	if dir := os.Getenv("MINICTR_VM_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = "/var/cache"
	}
	return filepath.Join(dir, "minictr-vm")
}

// kernelOf finds the modules of an image: beside it, below the directory that
// boot/ is in, or those of this system.
func kernelOf(image string) Kernel {
	k := Kernel{Image: image}
	if dir := filepath.Dir(image); filepath.Base(image) == kernelName && filepath.Base(filepath.Dir(dir)) == "modules" {
		k.Modules = dir
	}
	release, ok := strings.CutPrefix(filepath.Base(image), kernelPrefix)
	if !ok {
		return k
	}
	top := filepath.Dir(filepath.Dir(image))
	for _, lib := range []string{filepath.Join(top, "lib"), filepath.Join(top, "usr/lib"), "/lib"} {
		dir := filepath.Join(lib, "modules", release)
		if _, err := os.Stat(dir); err == nil {
			k.Modules = dir
			break
		}
	}
	return k
}

// compareReleases orders names by the numbers in them: 6.9 comes before 6.10.
func compareReleases(a, b string) int {
	isDigit := func(c byte) bool { return c >= '0' && c <= '9' }
	for a != "" && b != "" {
		if !isDigit(a[0]) || !isDigit(b[0]) {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		var x, y string
		x, a = digits(a)
		y, b = digits(b)
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// digits cuts a number off the beginning, without leading zeros.
func digits(s string) (number, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	return strings.TrimLeft(s[:end], "0"), s[end:]
}

// A module is one kernel module, plain, ready for finit_module(2).
type module struct {
	name string
	text []byte
}

// modules returns the named modules of a kernel, each after those that it
// needs. A module that the kernel does not have is left out: it is built in,
// or whoever uses it will say what is missing.
func (k Kernel) modules(names []string) ([]module, error) {
	if k.Modules == "" || len(names) == 0 {
		return nil, nil
	}
	files := make(map[string]string)
	err := filepath.WalkDir(k.Modules, func(path string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok && err == nil {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var list []module
	seen := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] || files[name] == "" {
			return nil
		}
		seen[name] = true
		text, err := readModule(files[name])
		if err != nil {
			return fmt.Errorf("kernel module %s: %w", files[name], err)
		}
		for _, needed := range dependencies(text) {
			if err := add(needed); err != nil {
				return err
			}
		}
		list = append(list, module{name, text})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// dependencies reads what a module says of itself, modinfo(8), since the list
// modules.dep is made only when a kernel is installed.
func dependencies(module []byte) []string {
	_, after, ok := bytes.Cut(module, []byte("\x00depends="))
	if !ok {
		return nil
	}
	list, _, _ := bytes.Cut(after, []byte{0})
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' })
}

func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(f, 0)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(f); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
