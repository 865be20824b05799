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
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

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

// buildID reads an ELF file, elf(5), whose head tells all: Go's linker puts
// the notes behind the program headers. Package debug/elf would cost the start
// of every program that links it.
func buildID(f io.Reader) (string, error) {
	const (
		headers, size = 64, 56                       // of program headers: where, and how long each is
		interp        = 3                            // PT_INTERP
		note          = "\x04\x00\x00\x00Go\x00\x00" // kind and owner of Go's note; its length stands before
	)
	le := binary.LittleEndian
	head := make([]byte, 4096)
	if n, err := io.ReadFull(f, head); n < headers || string(head[:5]) != "\x7fELF\x02" {
		return "", errors.Join(errors.New("not a 64-bit ELF file"), err)
	}
	for i := range min(int(le.Uint16(head[56:])), (len(head)-headers)/size) {
		if le.Uint32(head[headers+i*size:]) == interp {
			return "", ErrDynamic
		}
	}
	before, id, ok := bytes.Cut(head, []byte(note))
	if !ok {
		return "", errors.New("the program has no Go build ID")
	}
	length := le.Uint32(before[len(before)-4:])
	return string(id[:min(int(length), len(id))]), nil
}

// Applet returns the command of that name, and whether there is one.
// Args[0] is the name that the command was called by.
func Applet(name string) (func(args []string) int, bool) {
	run, ok := applet.Lookup(name)
	switch {
	case ok:
	case name == "sh":
		run = func(_ applet.Stdio, args []string) int { return shell.Main(args) }
	case name == multiCall:
		run = list
	default:
		return nil, false
	}
	return func(args []string) int {
		stayFirst()
		return run(applet.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, args)
	}, true
}

// list is the command tiny: it lists what there is.
func list(std applet.Stdio, _ []string) int {
	fmt.Fprintln(std.Out, strings.Join(commands(), "\n"))
	return 0
}

// commands lists the names under which the program is linked in the image.
func commands() []string { return append(applet.Names(), "sh") }

// stayFirst gives a command that is PID 1 what the kernel gives every PID 1:
// signals that it has no handler for do nothing, see kill(2). Go's runtime has
// a handler for all of them, which would end the process instead. Handlers,
// and not SIG_IGN, because a program that is executed would inherit that.
func stayFirst() {
	if os.Getpid() == 1 {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
			unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE)
	}
}
