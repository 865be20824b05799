package main

// abis are the ways to make a system call on this processor.
var abis = []struct {
	name string
	call func(nr uintptr, args [5]uint32) uintptr
}{{"aarch64", native}}
