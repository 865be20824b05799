package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// elf is a file with one program header of the kind, and text after it.
func elf(kind uint32, text string) []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], kind)
	le.PutUint64(b[64+8:], uint64(len(b)))
	le.PutUint64(b[64+32:], uint64(len(text)))
	return append(b, text...)
}

func TestBuildID(t *testing.T) {
	note := "\x04\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00Go\x00\x00abc\x00"
	for _, c := range []struct {
		name string
		file []byte
		want string
		err  bool
	}{
		{"Go's note", elf(4, note), "abc", false},
		{"another note before it", elf(4, "\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00GNU\x00"+note), "abc", false},
		{"a note of another", elf(4, "\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00GNU\x00"), "", true},
		{"not ELF", []byte("#!/bin/sh\n"), "", true},
		{"cut short", elf(4, note)[:60], "", true},
		{"note cut short", elf(4, note)[:len(elf(4, note))-2], "ab\x00", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := buildID(bytes.NewReader(c.file))
			if got != c.want || (err != nil) != c.err {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
	if _, err := buildID(bytes.NewReader(elf(3, note))); !errors.Is(err, ErrDynamic) {
		t.Errorf("a program with a loader: %v", err)
	}
}

func FuzzBuildID(f *testing.F) {
	f.Add(elf(4, "\x04\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00Go\x00\x00abc\x00"))
	f.Fuzz(func(_ *testing.T, file []byte) { buildID(bytes.NewReader(file)) })
}
