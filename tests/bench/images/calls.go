package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// countCalls counts the system calls that minictr makes for a plain file: the
// difference between an image of many files and one of twice as many.
func (b bench) countCalls() error {
	const files = 2000
	few, err := b.callsOf(files)
	if err != nil {
		return err
	}
	many, err := b.callsOf(2 * files)
	if err != nil {
		return err
	}
	var lines []string
	sum := 0.0
	for name, n := range many {
		if each := float64(n-few[name]) / files; each >= 0.02 {
			lines = append(lines, fmt.Sprintf("| %s | %.2f |", name, each))
			sum += each
		}
	}
	slices.Sort(lines)
	fmt.Printf("| system call | for a plain file |\n|---|--:|\n%s\n| all | %.2f |\n", strings.Join(lines, "\n"), sum)
	return nil
}

// callsOf counts all calls of loading an image, by name.
func (b bench) callsOf(files int64) (counts map[string]int, err error) {
	archive, summary := filepath.Join(b.dir, "archive"), filepath.Join(b.dir, "summary")
	f, err := os.Create(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := modules(files)(f); err != nil {
		return nil, err
	}
	store := filepath.Join(b.dir, fmt.Sprint("store-", files))
	if err := run("strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", summary, b.dir+"/minictr", "--data-root", store, "--root", b.dir+"/run", "load", "--import", "modules", archive); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return nil, err
	}
	counts = map[string]int{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 2 && words[1] != "total" {
			if n, err := strconv.Atoi(words[0]); err == nil {
				counts[words[1]] = n
			}
		}
	}
	return counts, nil
}
