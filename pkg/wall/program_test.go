package wall

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// An instruction as people write it: registers are 16 times the source and the
// destination.
type instruction struct{ code, registers, offset, immediate int }

func assemble(rows ...instruction) (p deviceProgram) {
	for _, r := range rows {
		p = append(p, byte(r.code), byte(r.registers))
		p = binary.NativeEndian.AppendUint16(p, uint16(r.offset))
		p = binary.NativeEndian.AppendUint32(p, uint32(r.immediate))
	}
	return p
}

const (
	load   = unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM
	half   = unix.BPF_LDX | unix.BPF_H | unix.BPF_MEM
	octet  = unix.BPF_LDX | unix.BPF_B | unix.BPF_MEM
	move   = unix.BPF_ALU64 | unix.BPF_MOV
	copies = move | unix.BPF_X
	unless = unix.BPF_JMP | unix.BPF_JNE
	leave  = unix.BPF_JMP | unix.BPF_EXIT
)

// TestDeviceProgram runs a program that lets c 1:3 be read and written, and
// each c 5:* made, for everything that can be asked about some devices.
func TestDeviceProgram(t *testing.T) {
	p := assemble(
		instruction{load, 0x12, 0, 0}, // r2: type and access
		instruction{copies, 0x23, 0, 0},
		instruction{unix.BPF_ALU | unix.BPF_RSH, 3, 0, 16}, // r3: access
		instruction{half, 0x12, 0, 0},                      // r2: type
		instruction{load, 0x14, 4, 0},                      // r4: major
		instruction{octet, 0x15, 8, 0},                     // r5: minor's low byte
		instruction{unless, 2, 8, unix.BPF_DEVCG_DEV_CHAR},
		instruction{unix.BPF_JMP32 | unix.BPF_JEQ, 4, 4, 5},
		instruction{unless, 4, 6, 1},
		instruction{unless, 5, 5, 3},
		instruction{unix.BPF_JMP | unix.BPF_JSET, 3, 4, unix.BPF_DEVCG_ACC_MKNOD},
		instruction{unix.BPF_JMP | unix.BPF_JA, 0, 1, 0},
		instruction{unless, 3, 2, unix.BPF_DEVCG_ACC_MKNOD},
		instruction{move, 0, 0, 1},
		instruction{leave, 0, 0, 0},
		instruction{move, 0, 0, 0},
		instruction{leave, 0, 0, 0},
	)
	for _, kind := range []uint32{unix.BPF_DEVCG_DEV_BLOCK, unix.BPF_DEVCG_DEV_CHAR} {
		for _, d := range [][2]uint32{{1, 3}, {1, 5}, {5, 3}, {5, 0}, {9, 3}} {
			for access := uint32(1); access < 8; access++ {
				want := kind == unix.BPF_DEVCG_DEV_CHAR &&
					(d == [2]uint32{1, 3} && access&unix.BPF_DEVCG_ACC_MKNOD == 0 || d[0] == 5 && access == unix.BPF_DEVCG_ACC_MKNOD)
				if yes, known := p.allows(kind, access, d[0], d[1]); yes != want || !known {
					t.Errorf("type %d, access %d to %d: %v, %v", kind, access, d, yes, known)
				}
			}
		}
	}
}

// TestDeviceProgramWidths computes with what 32 and 64 bits make different:
// each program lets the access through if that is right.
func TestDeviceProgramWidths(t *testing.T) {
	for name, p := range map[string]deviceProgram{
		"add wraps":  assemble(instruction{move, 0, 0, -1}, instruction{unix.BPF_ALU | unix.BPF_ADD, 0, 0, 2}, instruction{unless, 0, 1, 1}, instruction{leave, 0, 0, 0}, instruction{move, 0, 0, 0}, instruction{leave, 0, 0, 0}),
		"sign":       assemble(instruction{move, 2, 0, -1}, instruction{move, 0, 0, 1}, instruction{unix.BPF_JMP | unix.BPF_JEQ, 2, 1, -1}, instruction{move, 0, 0, 0}, instruction{leave, 0, 0, 0}),
		"shift":      assemble(instruction{move, 0, 0, 1}, instruction{unix.BPF_ALU64 | unix.BPF_LSH, 0, 0, 40}, instruction{unix.BPF_ALU64 | unix.BPF_RSH, 0, 0, 40}, instruction{leave, 0, 0, 0}),
		"lower half": assemble(instruction{move, 2, 0, 1}, instruction{unix.BPF_ALU64 | unix.BPF_LSH, 2, 0, 32}, instruction{move, 0, 0, 1}, instruction{unix.BPF_JMP32 | unix.BPF_JEQ, 2, 1, 0}, instruction{move, 0, 0, 0}, instruction{leave, 0, 0, 0}),
		"subtract":   assemble(instruction{move, 0, 0, 7}, instruction{unix.BPF_ALU | unix.BPF_SUB, 0, 0, 6}, instruction{unix.BPF_JMP | unix.BPF_JGT, 0, 1, 1}, instruction{leave, 0, 0, 0}),
	} {
		if yes, known := p.allows(unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_READ, 1, 3); !yes || !known {
			t.Errorf("%s: %v, %v", name, yes, known)
		}
	}
}

// TestDeviceProgramUnknown has programs whose verdict can't be told.
func TestDeviceProgramUnknown(t *testing.T) {
	for name, first := range map[string]instruction{
		"calls":             {unix.BPF_JMP | unix.BPF_CALL, 0, 0, 1},
		"reads a map":       {unix.BPF_LD | unix.BPF_IMM | 0x18, 0x11, 0, 5},
		"reads its stack":   {load, 0xa0, -8, 0},
		"reads behind":      {load, 0x10, 12, 0},
		"writes":            {unix.BPF_STX | unix.BPF_W | unix.BPF_MEM, 0x1a, -8, 0},
		"divides signed":    {unix.BPF_ALU64 | unix.BPF_DIV, 2, 1, 3},
		"jumps far":         {unix.BPF_JMP32 | unix.BPF_JA, 0, 0, 1},
		"leaves its code":   {unix.BPF_JMP | unix.BPF_JA, 0, 9, 0},
		"isn't shown (JIT)": {},
	} {
		p := assemble(first, instruction{move, 0, 0, 1}, instruction{leave, 0, 0, 0})
		if yes, known := p.allows(unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_READ, 1, 3); yes || known {
			t.Errorf("%s: %v, %v", name, yes, known)
		}
	}
	if _, known := deviceProgram(nil).allows(unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_READ, 1, 3); known {
		t.Error("no program has a verdict")
	}
}
