package seccomp_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/seccomp"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func TestBytes(t *testing.T) {
	f := compileDefault(t, "", seccomp.X86_64)
	program := make([]unix.SockFilter, len(f.Program))
	if err := binary.Read(bytes.NewReader(f.Bytes()), binary.NativeEndian, program); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(program, f.Program) {
		t.Error("the bytes are another program")
	}
}

// A file of testdata is a small profile's program as people read it.
func TestFormat(t *testing.T) {
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write", "exit_group"}, Action: specs.ActAllow},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{
				Value: unix.CLONE_NEWUSER, Op: specs.OpMaskedEqual,
			}}},
			{Names: []string{"socket"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: unix.AF_ALG, Op: specs.OpEqualTo}, {Index: 2, Value: 5, Op: specs.OpGreaterThan},
			}},
		},
	}
	got := compile(t, p).String()
	if *update {
		if err := os.WriteFile("testdata/format.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/format.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s", got)
	}
}

func TestNumbers(t *testing.T) {
	tests := []struct {
		name string
		arch seccomp.Arch
		nr   uint32
	}{
		{"read", seccomp.X86_64, 0},
		{"read", seccomp.I386, 3},
		{"read", seccomp.AArch64, 63},
		{"mseal", seccomp.ARM, 462},
		{"file_setattr", seccomp.X86_64, 469},
		{"cacheflush", seccomp.ARM, 0xf0002},
		{"newfstatat", seccomp.AArch64, 79},
	}
	for _, tt := range tests {
		if nr := number(t, tt.name, tt.arch); nr != tt.nr {
			t.Errorf("%s on %v is %d, want %d", tt.name, tt.arch, nr, tt.nr)
		}
		if name, ok := seccomp.Name(tt.nr, tt.arch); !ok || name != tt.name {
			t.Errorf("%d on %v is %q, want %s", tt.nr, tt.arch, name, tt.name)
		}
	}
	for _, arch := range []seccomp.Arch{seccomp.X86_64, seccomp.I386, seccomp.AArch64, seccomp.ARM} {
		for nr := range uint32(1024) {
			name, ok := seccomp.Name(nr, arch)
			if back, found := seccomp.Number(name, arch); ok && (!found || back != nr) {
				t.Errorf("%d on %v is %s, which is %d", nr, arch, name, back)
			}
		}
	}
	if name, _ := seccomp.Name(0x40000000|520, seccomp.X86_64); name != "execve" {
		t.Errorf("x32 520 is %q", name)
	}
	for _, nr := range []uint32{^uint32(0), 0x80000000, 9999} {
		if name, ok := seccomp.Name(nr, seccomp.X86_64); ok {
			t.Errorf("%#x is %q", nr, name)
		}
	}
	if _, ok := seccomp.Number("chown32", seccomp.X86_64); ok {
		t.Error("x86_64 has chown32")
	}
	if _, ok := seccomp.Number("read", 0); ok {
		t.Error("an unknown architecture has read")
	}
}

func TestCheck(t *testing.T) {
	give := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	equal := func(jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: jt, Jf: jf}
	}
	load := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: k}
	}
	skip := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: k} }
	tests := []struct {
		program []unix.SockFilter
		want    string // in the error, "" for none
	}{
		{[]unix.SockFilter{give}, ""},
		{[]unix.SockFilter{load(60), equal(0, 1), give, give}, ""},
		{[]unix.SockFilter{skip(0), give}, ""},
		{nil, "empty"},
		{slices.Repeat([]unix.SockFilter{give}, 4097), "4096"},
		{[]unix.SockFilter{load(0)}, "end with a return"},
		{[]unix.SockFilter{load(64), give}, "instruction 0 loads offset 64"},
		{[]unix.SockFilter{load(2), give}, "instruction 0 loads offset 2"},
		{[]unix.SockFilter{load(0), equal(0, 1), give}, "instruction 1 jumps"},
		{[]unix.SockFilter{load(0), equal(1, 0), give}, "instruction 1 jumps"},
		{[]unix.SockFilter{skip(1), give}, "instruction 0 jumps"},
		{[]unix.SockFilter{skip(^uint32(0)), give}, "instruction 0 jumps"},
		{[]unix.SockFilter{{Code: 0xff}, give}, "unknown code 0xff"},
	}
	for i, tt := range tests {
		f := seccomp.Filter{Program: tt.program}
		err := f.Check()
		if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: %v, want %q", i, err, tt.want)
		}
		if _, evalErr := f.Eval(seccomp.Data{}); fmt.Sprint(evalErr) != fmt.Sprint(err) {
			t.Errorf("%d: Eval gives %v", i, evalErr)
		}
	}
}
