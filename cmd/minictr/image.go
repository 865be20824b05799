package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
	"github.com/minictr/minictr/pkg/image"
)

// images finds those of some names, and returns the names in full. The built-in
// one is made, if it is named.
func (c *call) images(names []string) (images []*image.Image, store *image.Store, full []string, err error) {
	if len(names) == 0 {
		return nil, nil, nil, fmt.Errorf("%s needs an image: minictr images lists them", c.name)
	}
	e, store, err := c.store()
	for _, name := range names {
		if err != nil {
			return nil, nil, nil, err
		}
		var img *image.Image
		img, err = e.Image(c, name, false)
		images, full = append(images, img), append(full, engine.FullName(name))
	}
	return images, store, full, err
}

// ofImage is the action of a command that takes one image.
func ofImage(do func(*call, *image.Image) error) action {
	return func(c *call) error {
		if err := c.exactly(1, c.command.args); err != nil {
			return err
		}
		images, _, _, err := c.images(c.args)
		if err != nil {
			return err
		}
		return do(c, images[0])
	}
}

func tagCommand(*pflag.FlagSet) action {
	return func(c *call) error {
		if err := c.exactly(2, c.command.args); err != nil {
			return err
		}
		_, store, names, err := c.images(c.args[:1])
		if err != nil {
			return err
		}
		return store.Tag(names[0], c.args[1])
	}
}

// An imageDocument is what docker image inspect prints.
type imageDocument struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      *time.Time `json:",omitempty"`
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64
	Config       json.RawMessage
	GraphDriver  graphDriver
	RootFS       rootFS
	Descriptor   image.Descriptor
	Referrers    []image.Descriptor `json:",omitempty"` // signatures and the like
}

type graphDriver struct {
	Data struct{ LowerDir string }
	Name string
}

type rootFS struct {
	Type   string
	Layers []image.Digest
}

func documentOf(img *image.Image) (*imageDocument, error) {
	text, err := img.Document()
	if err != nil {
		return nil, err
	}
	var raw struct{ Config json.RawMessage }
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	layers, err := img.LayerDirs()
	if err != nil {
		return nil, err
	}
	c := img.Config
	d := &imageDocument{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: []string{}, Created: c.Created, Author: c.Author,
		Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion, Size: img.Size, Config: raw.Config,
		RootFS: rootFS{c.RootFS.Type, c.RootFS.DiffIDs}, Descriptor: img.Manifest,
	}
	d.GraphDriver.Name, d.GraphDriver.Data.LowerDir = "overlay", strings.Join(layers, ":")
	if n := len(c.History); n > 0 {
		d.Comment = c.History[n-1].Comment
	}
	for _, name := range img.Names {
		ref, err := image.ParseReference(name)
		if err != nil {
			continue
		}
		if ref.Digest.IsZero() {
			d.RepoTags = append(d.RepoTags, ref.Familiar())
		}
		ref.Tag, ref.Digest = "", img.IndexOf(name) // what others get by the same name
		if ref.Digest.IsZero() {
			ref.Digest = img.Manifest.Digest
		}
		if digest := ref.Familiar(); !slices.Contains(d.RepoDigests, digest) {
			d.RepoDigests = append(d.RepoDigests, digest)
		}
	}
	return d, nil
}

// refer adds what refers to the image by any of its names.
func (d *imageDocument) refer(img *image.Image) (err error) {
	for _, name := range img.Names {
		referrers, e := img.Referrers(name)
		err = errors.Join(err, e)
		for _, r := range referrers {
			if !r.In(d.Referrers) {
				d.Referrers = append(d.Referrers, r.Descriptor)
			}
		}
	}
	return err
}

func historyCommand(f *pflag.FlagSet) action {
	quiet := f.BoolP("quiet", "q", false, "only the IDs")
	human := f.BoolP("human", "H", true, "round sizes and dates")
	list := listFlags(f)
	return ofImage(func(c *call, img *image.Image) error {
		size, when := format.Size, since
		if !*human {
			size, when = func(n int64) string { return strconv.FormatInt(n, 10) }, moment
		}
		// The last step made the image; those before it have no image here.
		id, layer := list.id(img.ID), len(img.Layers)
		var rows []format.Row
		for _, h := range slices.Backward(historyOf(img)) {
			var bytes int64
			if !h.EmptyLayer && layer > 0 {
				layer--
				bytes = img.Layers[layer].Size
			}
			rows = append(rows, format.Row{
				"ID": id, "CreatedAt": moment(h.Created), "CreatedSince": when(h.Created),
				"CreatedBy": list.text(h.CreatedBy), "Size": size(bytes), "Comment": list.text(h.Comment),
			})
			id = "<missing>"
		}
		if *quiet {
			return format.Print(c.stdout, "{{.ID}}", rows)
		}
		return c.print(list, historyFields(), []string{"ID", "CreatedSince", "CreatedBy", "Size", "Comment"}, rows)
	})
}

func historyFields() []format.Field {
	return []format.Field{
		{Name: "ID", Heading: "IMAGE"},
		{Name: "CreatedSince", Heading: "CREATED"},
		{Name: "CreatedAt", Heading: "CREATED AT"},
		{Name: "CreatedBy", Heading: "CREATED BY", Long: true},
		{Name: "Size", Heading: "SIZE"},
		{Name: "Comment", Heading: "COMMENT", Long: true},
	}
}

// historyOf is an image's history; of layers that it does not tell of, that
// they are there.
func historyOf(img *image.Image) []image.History {
	told := 0
	for _, h := range img.Config.History {
		if !h.EmptyLayer {
			told++
		}
	}
	return append(make([]image.History, max(0, len(img.Layers)-told)), img.Config.History...)
}

func saveCommand(f *pflag.FlagSet) action {
	output := f.StringP("output", "o", "", "write `FILE`, and not standard output")
	format := f.String("format", string(image.FormatOCI), "write this `FORMAT`: oci-archive, the blobs as they are, which docker (not before 23 if they are zstd), podman and skopeo load; or docker-archive, with plain layers, for the oldest")
	return func(c *call) error {
		_, store, names, err := c.images(c.args)
		if err != nil {
			return err
		}
		return c.writeArchive(*output, func(w io.Writer) error { return store.Save(c, w, image.Format(*format), names...) })
	}
}

// writeArchive writes a file, which has its name only when it is whole; or
// standard output, unless that is a terminal.
func (c *call) writeArchive(name string, write func(io.Writer) error) error {
	if name == "" {
		if c.stdout == os.Stdout && term.IsTerminal(1) {
			return fmt.Errorf("%s would write an archive to the terminal: -o FILE, or > FILE", c.name)
		}
		out := bufio.NewWriterSize(c.stdout, 128<<10)
		return errors.Join(write(out), out.Flush())
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() { // /dev/null, a pipe
		out, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(out), out.Close())
	}
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // so that a link to it stays one
	}
	defer c.untilSignal()()
	return image.MakeFile(name, func(f *os.File) error {
		out := bufio.NewWriterSize(interruptible{c, f}, 128<<10)
		if err := write(out); err != nil {
			return err
		}
		return out.Flush()
	})
}

// untilSignal has the call's context end with a signal, until stop is called:
// then what is half made can be taken away.
func (c *call) untilSignal() (stop func()) {
	c.Context, stop = signal.NotifyContext(c.Context, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	return stop
}

// interruptible is a writer that ends with the context.
type interruptible struct {
	context.Context
	w io.Writer
}

func (i interruptible) Write(p []byte) (int, error) {
	if err := i.Err(); err != nil {
		return 0, err
	}
	return i.w.Write(p)
}

func imagePruneCommand(f *pflag.FlagSet) action {
	all := f.BoolP("all", "a", false, "also those with a name, if no container uses them")
	force := forceFlag(f)
	return withEngine(0, func(c *call, e *engine.Engine) error {
		what := "all images without a name"
		if *all {
			what = "all images that no container uses"
		}
		if err := c.sure(*force, what); err != nil {
			return err
		}
		if err := e.Sweep(); err != nil {
			return err
		}
		return c.pruneImages(e, *all)
	})
}

func imageTreeCommand(*pflag.FlagSet) action {
	return ofImage(func(c *call, img *image.Image) error {
		changes, err := img.Changes()
		if err != nil {
			return err
		}
		lines := [][]string{{"LAYER", "BLOB", "UNPACKED", "ADDS", "REPLACES", "REMOVES", "HIDES", "MADE BY"}}
		var all, hidden int64
		short, table := false, "table"
		for _, l := range changes {
			all, hidden = all+l.Unpacked, hidden+l.Hides
			lines = append(lines, []string{
				l.Blob.Digest.Short(), format.Size(l.Blob.Size), format.Size(l.Unpacked), strconv.Itoa(l.Adds), strconv.Itoa(l.Replaces), strconv.Itoa(l.Removes), format.Size(l.Hides),
				listing{&short, &table}.text(strings.TrimPrefix(l.Command, "/bin/sh -c #(nop) ")),
			})
		}
		if err := format.Align(c.stdout, lines); err != nil || hidden == 0 {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "\n%s of %s can't be seen any more, and are still in the image: a layer can hide what\nlies below it, but a file that it deletes makes the image no smaller\n", format.Size(hidden), format.Size(all))
		return err
	})
}
