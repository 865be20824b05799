package main

// abis are the ways to make a system call on this processor.
var abis = []struct {
	name string
	call func(nr uintptr, args [5]uint32) uintptr
}{
	{"x86_64", native},
	{"x32", func(nr uintptr, a [5]uint32) uintptr { return native(nr|1<<30, a) }},
	{"i386", func(nr uintptr, a [5]uint32) uintptr {
		return uintptr(int80(uint32(nr), a[0], a[1], a[2], a[3], a[4], mark))
	}},
}

// int80 makes a call of i386.
func int80(nr, a0, a1, a2, a3, a4, a5 uint32) uint32
