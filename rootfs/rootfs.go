// Package rootfs is the built-in image: it needs no network and no file but
// the running program itself.
//
// The program is also a multi-call program: started under the name of a
// command (ls, ps, sh), it is that command. The image holds a copy of the
// program, never the file itself, so nothing in a container leads to the
// runtime on the host, and a symbolic link for each command. Beside them
// stand a few programs that are no Go at all but lists of system calls (see
// programs.go), because a lesson about PID 1, signals or limits needs a
// process with one thread and no runtime of its own.
//
// Write makes an OCI image layout of it, see
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md,
// which goes the way of any other image.
package rootfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minictr/minictr/rootfs/applet"
	"github.com/minictr/minictr/rootfs/shell"
)

// Name is the reference of the built-in image.
const Name = "minictr.local/tiny:latest"

// Short is what people type for Name.
const Short = "tiny"

// self is the running program, whatever became of its file.
const self = "/proc/self/exe"

// multiCall is the program's name in the image.
const multiCall = "tiny"

// ErrDynamic says that the program needs a loader and libraries of the host,
// which are not in the image: it was built with cgo.
var ErrDynamic = errors.New("the program is not static; build it with CGO_ENABLED=0")

// ID tells one build of the program from another: it is Go's build ID, from
// the ELF note. The image carries it as the label LabelID, so that an image
// that an older program made is known. The error is ErrDynamic if the program
// can't be the image's.
func ID() (string, error) {
	f, err := os.Open(self)
	if err != nil {
		return "", fmt.Errorf("rootfs: %w", err)
	}
	defer f.Close() // opened to read
	id, err := buildID(f)
	if err != nil {
		return "", fmt.Errorf("rootfs: %s: %w", self, err)
	}
	return id, nil
}

// buildID reads the program headers of an ELF file, elf(5), up to Go's note.
// Package debug/elf would cost the start of every program that links it.
func buildID(f io.ReaderAt) (string, error) {
	const (
		interp, note = 3, 4         // PT_INTERP, PT_NOTE
		fileHeader   = 64           // bytes
		header       = 56           // bytes of a program header
		owner        = "Go\x00\x00" // of Go's notes
	)
	le := binary.LittleEndian
	file := make([]byte, fileHeader)
	if _, err := f.ReadAt(file, 0); err != nil || string(file[:5]) != "\x7fELF\x02" {
		return "", errors.Join(errors.New("not a 64-bit ELF file"), err)
	}
	headers := make([]byte, header*int(le.Uint16(file[56:])))
	if _, err := f.ReadAt(headers, int64(le.Uint64(file[32:]))); err != nil {
		return "", fmt.Errorf("program headers: %w", err)
	}
	id := ""
	for h := range slices.Chunk(headers, header) {
		switch le.Uint32(h) {
		case interp:
			return "", ErrDynamic
		case note:
			notes := make([]byte, min(le.Uint64(h[32:]), 1<<16))
			if _, err := f.ReadAt(notes, int64(le.Uint64(h[8:]))); err != nil {
				return "", fmt.Errorf("note: %w", err)
			}
			if head, text, ok := strings.Cut(string(notes), owner); ok && len(head) >= 12 {
				size := le.Uint32([]byte(head[len(head)-8:]))
				id = text[:min(int(size), len(text))]
			}
		}
	}
	if id == "" {
		return "", errors.New("the program has no Go build ID")
	}
	return id, nil
}

// Applet returns the command of that name, and whether there is one.
// Args[0] is the name that the command was called by.
func Applet(name string) (func(args []string) int, bool) {
	var run func(args []string) int
	switch f, ok := applet.Lookup(name); {
	case ok:
		run = func(args []string) int { return applet.Run(f, args) }
	case name == "sh":
		run = shell.Main
	case name == multiCall:
		run = list
	default:
		return nil, false
	}
	return func(args []string) int {
		stayFirst()
		return run(args)
	}, true
}

// Main is the multi-call program: the command that args[0] names, 127 if
// there is none.
func Main(args []string) int {
	name := filepath.Base(args[0])
	run, ok := Applet(name)
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: no such command in the built-in image\n", name)
		return 127
	}
	return run(args)
}

// list is the command tiny: "tiny ls -l" is "ls -l"; alone it lists what
// there is.
func list(args []string) int {
	if len(args) > 1 && args[1] != multiCall {
		return Main(args[1:])
	}
	for _, name := range commands() {
		fmt.Println(name)
	}
	return 0
}

// commands lists the names under which the program is linked in the image.
func commands() []string { return append(applet.Names(), "sh") }
