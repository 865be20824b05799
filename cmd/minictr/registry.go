package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/pkg/registry"
)

// mirrorsOf reads values of the flag --mirror.
func mirrorsOf(flags []string) (map[string][]string, error) {
	mirrors := make(map[string][]string)
	for _, f := range flags {
		host, url, ok := strings.Cut(f, "=")
		if !ok || host == "" || url == "" {
			return nil, fmt.Errorf("--mirror: %q is not HOST=URL, as in docker.io=http://localhost:5000", f)
		}
		mirrors[host] = append(mirrors[host], url)
	}
	return mirrors, nil
}

// registries is the client that the configuration asks for. Only commands that
// speak to a registry read that.
func (c *call) registries() (*registry.Client, error) {
	mirrors, err := mirrorsOf(words(c.mirrors))
	return &registry.Client{Mirrors: mirrors, Insecure: words(c.insecure)}, err
}

func pullCommand(f *pflag.FlagSet) action {
	quiet := f.BoolP("quiet", "q", false, "print the image's ID, and nothing else")
	platform := f.String("platform", "", "of an image for several, take the one for `OS/ARCH[/VARIANT]`")
	return func(c *call) error {
		if err := c.exactly(1, "IMAGE"); err != nil {
			return err
		}
		opts, err := platformOptions(*platform)
		if err != nil {
			return err
		}
		ref, err := image.ParseReference(c.args[0])
		if err != nil {
			return err
		}
		_, store, err := c.store()
		if err != nil {
			return err
		}
		client, err := c.registries()
		if err != nil {
			return err
		}
		if !*quiet {
			c.sayName(ref)
		}
		img, err := client.Pull(c, store, ref, opts)
		if err != nil {
			return err
		}
		if !*quiet {
			fmt.Fprintf(c.stderr, "minictr: its digest is %s\n", img.Manifest.Digest)
		}
		_, err = fmt.Fprintln(c.stdout, img.ID)
		return err
	}
}

// sayName says what a short name stands for.
func (c *call) sayName(ref image.Reference) {
	if full := ref.String(); full != c.args[0] {
		fmt.Fprintf(c.stderr, "minictr: %s is %s\n", c.args[0], full)
	}
}

// platformOptions reads the flag --platform.
func platformOptions(s string) (opts image.Options, err error) {
	if s == "" {
		return opts, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return opts, fmt.Errorf("--platform: %q is not OS/ARCH[/VARIANT], as in linux/arm64", s)
	}
	opts.Platform = image.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}
	return opts, nil
}
