// Command nothing does nothing: what is left is the start of a Go program.
package main

func main() {}
