package main

// abis begin with that of this program.
var abis = []abi{
	{"x86_64", len(patterns), native},
	{"x32", 1, func(nr uintptr, a [5]uint32) uintptr { return native(nr|1<<30, a) }},
	{"i386", 1, func(nr uintptr, a [5]uint32) uintptr {
		return uintptr(int80(uint32(nr), a[0], a[1], a[2], a[3], a[4], mark))
	}},
}

// unfiltered are the calls of uprobes, uretprobe and uprobe, which newer kernels
// carry out without asking any filter: they are not tried.
func unfiltered(nr uintptr) bool { return nr == 335 || nr == 336 }

// int80 makes a call of i386.
func int80(nr, a0, a1, a2, a3, a4, a5 uint32) uint32
