package vm

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// An Accel is what carries the guest's instructions out.
type Accel string

const (
	// KVM is the processor itself, by the kernel's help.
	KVM Accel = "kvm"
	// TCG is QEMU's emulation of a processor: no fair speed.
	TCG Accel = "tcg"
)

// Descriptors of QEMU, in the order of exec.Cmd.ExtraFiles, which begin at 3.
const (
	fdInitramfs = iota
	fdConsole
	firstExtra = 3
)

// ErrNoQEMU says that there is no QEMU for this kind of processor.
var ErrNoQEMU = errors.New("vm: QEMU is not installed")

// An emulator is the program that makes machines of one kind of processor.
type emulator struct {
	program string
	machine string // its type
	console string // the guest's name of its first serial line
	second  string // the device that is the second, and the first of its kind in the guest
	line    string // the guest's name of that
}

// emulatorOf is the one for this kind of processor. The machine for amd64 has no
// more than a program needs: it has booted in two thirds of the time of one
// like a PC. Its ACPI is off, since without it the timer always works.
func emulatorOf(arch string) (emulator, error) {
	switch arch {
	case "amd64":
		return emulator{"qemu-system-x86_64", "microvm,x-option-roms=off,rtc=on,acpi=off", "ttyS0", "isa-serial,index=1", "ttyS1"}, nil
	case "arm64":
		return emulator{"qemu-system-aarch64", "virt", "ttyAMA0", "pci-serial", "ttyS0"}, nil
	}
	return emulator{}, fmt.Errorf("%w: none is known for %s", ErrNoQEMU, arch)
}

// find is the path of the program.
func (q emulator) find() (string, error) {
	path, err := exec.LookPath(q.program)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoQEMU, err)
	}
	return path, nil
}

// Missing says what a machine for this kind of processor lacks here: QEMU, or a
// kernel. It is nil if both are here.
func Missing() error {
	q, err := emulatorOf(runtime.GOARCH)
	if err != nil {
		return err
	}
	_, noQEMU := q.find()
	_, noKernel := FindKernel("")
	return errors.Join(noQEMU, noKernel)
}

// self is this program's file.
const self = "/proc/self/exe"

// arch is the kind of the machine's processor: that of its first process, as
// the header of the file says, elf(5).
func (c *Config) arch() (string, error) {
	f, err := os.Open(cmp.Or(c.Init, self))
	if err != nil {
		return "", err
	}
	defer f.Close()
	header := make([]byte, 20)
	if _, err := io.ReadFull(f, header); err != nil || string(header[:4]) != "\x7fELF" {
		return "", fmt.Errorf("%s is not a program: %w", f.Name(), errors.ErrUnsupported)
	}
	switch machine := binary.LittleEndian.Uint16(header[18:]); machine {
	case 62:
		return "amd64", nil
	case 183:
		return "arm64", nil
	default:
		return "", fmt.Errorf("%s is for a processor that no machine is known for, e_machine %d", f.Name(), machine)
	}
}

// arguments are QEMU's command line.
func (c *Config) arguments() ([]string, error) {
	arch, err := c.arch()
	if err != nil {
		return nil, err
	}
	q, err := emulatorOf(arch)
	if err != nil {
		return nil, err
	}
	program, err := q.find()
	if err != nil {
		return nil, err
	}
	cpu := "max"
	if c.Accel == KVM {
		cpu = "host"
	}
	const mebibyte = 1 << 20
	params := append([]string{
		"rdinit=/" + initDir + "/" + InitName, "console=" + q.console, "quiet", "panic=-1", "reboot=t",
	}, c.Params...)
	return []string{
		program, "-no-user-config", "-nodefaults", "-no-reboot", "-display", "none",
		"-machine", q.machine, "-accel", string(c.Accel), "-cpu", cpu,
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.FormatInt(c.Memory/mebibyte, 10) + "M",
		"-chardev", fmt.Sprintf("file,id=console,path=/dev/fd/%d", firstExtra+fdConsole), "-serial", "chardev:console",
		"-chardev", "stdio,id=data,signal=off", "-device", q.second + ",chardev=data",
		"-kernel", c.Kernel.Image, "-initrd", fmt.Sprintf("/dev/fd/%d", firstExtra+fdInitramfs),
		"-append", strings.Join(params, " "),
	}, nil
}

// probePatience is more than a kernel needs to boot on real hardware.
const probePatience = 8 * time.Second

// Probe finds out what carries a machine's instructions out here: KVM if a
// kernel really boots with it, which a device file alone does not tell. The
// answer is kept for as long as this system is up, in the cache directory.
// Another kind of processor is always emulated.
func Probe(ctx context.Context, c *Config) (Accel, error) {
	if arch, err := c.arch(); err != nil || arch != runtime.GOARCH {
		return TCG, err
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG, nil
	}
	_ = kvm.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	file := filepath.Join(CacheDir(), "accel")
	answer := func(a Accel) string { return strings.TrimSpace(string(boot)) + " " + string(a) + "\n" }
	if text, err := os.ReadFile(file); err == nil {
		for _, a := range []Accel{KVM, TCG} {
			if string(text) == answer(a) {
				return a, nil
			}
		}
	}
	found := TCG
	m, err := Start(ctx, Config{Kernel: c.Kernel, Accel: KVM, Cgroup: CgroupV2, Memory: 256 << 20, CPUs: 1, Timeout: probePatience}, Streams{})
	if err != nil {
		return "", err
	}
	if _, err := m.Wait(); err == nil {
		found = KVM
	}
	if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
		return found, nil // it will be asked again
	}
	return found, os.WriteFile(file, []byte(answer(found)), 0o600)
}
