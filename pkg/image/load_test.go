package image

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// sharedImages is the directory of images that other tools have made, beside
// the repository or where the environment says.
func sharedImages(t *testing.T) string {
	t.Helper()
	dir := cmp.Or(os.Getenv("MINICTR_TEST_IMAGES"), "../../../shared/images")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the collection of images is not here, and MINICTR_TEST_IMAGES does not name it: %v", err)
	}
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: layers have owners and devices")
	}
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantEmpty checks that nothing is left in the store by what failed.
func wantEmpty(t *testing.T, s *Store) {
	t.Helper()
	for _, dir := range []string{"tmp", "layers", "images", "blobs/sha256"} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			t.Errorf("left behind: %s/%s", dir, entry.Name())
		}
	}
}

// TestLoadSharedImages loads what other tools have made.
func TestLoadSharedImages(t *testing.T) {
	needRoot(t)
	dir := sharedImages(t)
	arm := Options{Platform: Platform{OS: "linux", Architecture: "arm64"}}
	amd := Options{Platform: Platform{OS: "linux", Architecture: "amd64"}}
	tests := []struct {
		file    string
		opts    Options
		names   string // of each image, ';' between images
		wantErr string
	}{
		{file: "alpine-310.tar.gz", opts: amd, names: "docker.io/library/alpine:3.10"},
		{file: "busybox-musl-amd64", opts: amd, names: "docker.io/library/busybox:1.38.0-musl"},
		{file: "docker-two-names.tar.xz", opts: amd, names: "docker.io/library/pretty-empty:latest,example.com/empty:latest"},
		{file: "hello-world-oci.tar", opts: amd, names: "docker.io/library/hello-world:latest"},
		{file: "hello-world-oci.tar", opts: arm, wantErr: "is not in the archive"},
		{file: "multiplatform-layout", opts: amd, names: "docker.io/library/multi-platform:latest"},
		{file: "multiplatform-layout", opts: arm, names: "docker.io/library/multi-platform:latest"},
		{file: "test-docker-image.tar", opts: amd, names: "docker.io/library/dive-test:latest"},
		{file: "test-oci-gzip-image.tar", opts: arm, names: ""},
		{file: "test-oci-gzip-image.tar", opts: amd, wantErr: "not for platform linux/amd64, only for linux/arm64"},
		{file: "test-oci-zstd-image.tar", opts: arm, names: ""},
		{file: "test_link.tar", opts: amd, names: "docker.io/bazel/v1/tarball:test_image_1;docker.io/bazel/v1/tarball:test_image_3"},
		{file: "whiteout_image.tar", opts: amd, names: "docker.io/bazel/pkg/v1/mutate:whiteout_image"},
		{file: "alpine-minirootfs-3.20.3-x86_64.tar.gz", wantErr: "the archive is no image"},
		{file: "all-entry-type.tar", wantErr: "the archive is no image"},
		{file: "hello-world.tar", wantErr: "the archive is no image"},
		{file: "whiteout.layer", wantErr: "the archive is no image"},
		{file: "whiteout_opaque.layer", wantErr: "the archive is no image"},
		{file: "zran-two-streams.tar.gz", wantErr: "the archive is no image"},
		{file: "no_manifest.tar", wantErr: "saved by a docker older than 1.10"},
		{file: "null_manifest.tar", wantErr: "manifest.json lists no image"},
		{file: "MANIFEST.tsv", wantErr: "invalid tar header"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s", tt.file, tt.opts.Platform.Architecture), func(t *testing.T) {
			s := openStore(t)
			images, err := s.Load(t.Context(), filepath.Join(dir, tt.file), tt.opts)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got %v, want %q", err, tt.wantErr)
				}
				wantEmpty(t, s)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, img := range images {
				names = append(names, strings.Join(img.Names, ","))
			}
			if got := strings.Join(names, ";"); got != tt.names {
				t.Errorf("got names %s, want %s", got, tt.names)
			}
		})
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.ContainsFunc(tests, func(tt struct {
			file    string
			opts    Options
			names   string
			wantErr string
		},
		) bool {
			return tt.file == f.Name()
		}) {
			t.Errorf("no outcome is stated for %s", f.Name())
		}
	}
}

// TestAlpineFiles looks into the real Alpine.
func TestAlpineFiles(t *testing.T) {
	needRoot(t)
	dir := sharedImages(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the image is for amd64")
	}
	s := openStore(t)
	if _, err := s.Load(t.Context(), filepath.Join(dir, "alpine-310.tar.gz"), Options{}); err != nil {
		t.Fatal(err)
	}
	img, err := s.Get("alpine")
	if err != nil {
		t.Fatal(err)
	}
	release, err := img.ReadFile("/etc/os-release")
	if err != nil || !strings.Contains(string(release), "VERSION_ID=3.10") {
		t.Errorf("got %q, %v", release, err)
	}
	var notFound *NotFoundError
	if _, err := s.Get("alpine:3.9"); !errors.As(err, &notFound) || !slices.Equal(notFound.Other, []string{"alpine:3.10"}) {
		t.Errorf("got %v", err)
	}
}
