package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A layer writes itself as a tar.
type layer func(io.Writer) error

// kinds are the images: one layer of a distribution, one of many small files,
// and six of large ones.
var kinds = []struct {
	name   string
	layers func(bench) ([]layer, error)
}{
	{"debian", bench.debian},
	{"npm", func(b bench) ([]layer, error) { return []layer{modules(b.pick(1_000, 50_000))}, nil }},
	{"toolchain", func(b bench) ([]layer, error) { return toolchain(b.pick(24<<20, 1300<<20), 6) }},
}

func (b bench) pick(small, large int64) int64 {
	if b.small {
		return small
	}
	return large
}

// compressions are the programs, and how images of them are called.
var compressions = [][]string{{"gzip", "-6", "-n"}, {"zstd", "-3", "-q"}}

func (b bench) marker(image string) string {
	return filepath.Join(b.cache, strings.NewReplacer("/", "-", ":", "-").Replace(image))
}

// images pushes what is not in the registry yet, and returns all names.
func (b bench) images(pattern *regexp.Regexp) (names []string, err error) {
	for _, kind := range kinds {
		repository := kind.name
		if b.small {
			repository += "-small"
		}
		for _, compress := range compressions {
			name := repository + ":" + compress[0]
			if !pattern.MatchString(name) {
				continue
			}
			names = append(names, name)
			if _, err := os.Stat(b.marker(name)); err == nil {
				continue
			}
			fmt.Fprintf(os.Stderr, "making %s\n", name)
			layers, err := kind.layers(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			digests, err := b.push(repository, compress[0], compress, layers)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if err := os.WriteFile(b.marker(name), []byte(strings.Join(digests, "\n")), 0o644); err != nil {
				return nil, err
			}
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no image matches")
	}
	return names, nil
}

// debian is what mmdebstrap makes, once.
func (b bench) debian() ([]layer, error) {
	variant := "standard"
	if b.small {
		variant = "essential"
	}
	file := filepath.Join(b.cache, variant+".tar")
	if _, err := os.Stat(file); err != nil {
		if err := run("mmdebstrap", "--variant="+variant, "stable", file); err != nil {
			return nil, err
		}
	}
	return []layer{func(w io.Writer) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}}, nil
}

// modules are many small files, the same each time: some 4 kB each, of words.
func modules(files int64) layer {
	words := strings.Fields("const let function return require module exports if else for of null undefined async await Promise new this value key index options callback error => { } ( ) ; = === 0 1 'use strict' // TODO")
	return func(w io.Writer) error {
		r := rand.New(rand.NewPCG(1, 2))
		t := tar.NewWriter(w)
		for i := range files {
			if i%20 == 0 {
				for _, dir := range []string{"", "/lib"} {
					if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("node_modules/package-%d%s/", i/20, dir), Mode: 0o755, ModTime: time.Unix(5e8, 0)}); err != nil {
						return err
					}
				}
			}
			var text strings.Builder
			for size := 200 + int(r.ExpFloat64()*3800); text.Len() < size; {
				text.WriteString(words[r.IntN(len(words))])
				text.WriteByte(" \n"[r.IntN(8)/7])
				fmt.Fprintf(&text, "%x", r.IntN(1<<12))
			}
			if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("node_modules/package-%d/lib/file-%d.js", i/20, i), Mode: 0o644, Size: int64(text.Len()), ModTime: time.Unix(5e8, 0)}); err != nil {
				return err
			}
			if _, err := io.WriteString(t, text.String()); err != nil {
				return err
			}
		}
		return t.Close()
	}
}

// toolchain are programs and libraries of this machine, in layers of one size.
func toolchain(size int64, count int) ([]layer, error) {
	paths := make([][]string, count)
	sum := int64(0)
	add := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
			return err
		}
		at := int(sum * int64(count) / size)
		if at >= count {
			return fs.SkipAll
		}
		if paths[at] = append(paths[at], path); info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	}
	for _, top := range []string{"/usr/local/go", "/usr/bin", "/usr/lib", "/usr/share"} {
		if err := filepath.WalkDir(top, add); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if sum < size {
		return nil, fmt.Errorf("this machine has only %d MB of programs", sum>>20)
	}
	var layers []layer
	for _, list := range paths {
		layers = append(layers, func(w io.Writer) error {
			t := tar.NewWriter(w)
			for _, path := range list {
				if err := addFile(t, path); err != nil {
					return err
				}
			}
			return t.Close()
		})
	}
	return layers, nil
}

func addFile(t *tar.Writer, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	hdr, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	if hdr.Name = strings.TrimPrefix(path, "/"); info.IsDir() {
		hdr.Name += "/"
	}
	if err := t.WriteHeader(hdr); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}
