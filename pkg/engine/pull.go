package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/minictr/minictr/pkg/image"
	"github.com/minictr/minictr/rootfs"
)

// imageFor finds the image that options ask for, and pulls it where they say
// so: always, never, or if there is none here for the platform that is meant.
func (e *Engine) imageFor(ctx context.Context, o Options) (*image.Image, error) {
	if o.Platform == "" && o.Pull != "always" {
		return e.Image(ctx, o.Image, o.Pull != "never")
	}
	platform, err := ParsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	builtIn := FullName(o.Image) == rootfs.Name
	if o.Pull != "always" || builtIn {
		img, err := e.Image(ctx, o.Image, false)
		var missing *image.NotFoundError
		switch {
		case err != nil && (o.Pull == "never" || !errors.As(err, &missing)):
			return nil, err
		case err == nil && (o.Platform == "" || platform.Runs(img.Config.Platform)):
			return img, nil
		case err == nil && (o.Pull == "never" || builtIn):
			return nil, &image.PlatformError{Want: platform, Have: []image.Platform{img.Config.Platform}}
		}
	}
	ref, err := image.ParseReference(o.Image)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(e.Messages, "minictr: pulling %s\n", ref)
	return e.Pull(ctx, ref, platform)
}

// ParsePlatform reads OS/ARCH[/VARIANT]; "" is this machine's.
func ParsePlatform(s string) (p image.Platform, err error) {
	if s == "" {
		return p, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return p, fmt.Errorf("--platform: %q is not OS/ARCH[/VARIANT], as in linux/arm64", s)
	}
	return image.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}, nil
}

// noteID writes the container's ID to the file that is to have it, and which
// must not be there yet.
func (o Options) noteID(id string) error {
	if o.CIDFile == "" {
		return nil
	}
	f, err := os.OpenFile(o.CIDFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("--cidfile: %w", err)
	}
	_, err = io.WriteString(f, id)
	return errors.Join(err, f.Close())
}
