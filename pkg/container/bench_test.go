package container_test

import (
	"encoding/json"
	"testing"

	"github.com/minictr/minictr/pkg/container"
	"github.com/minictr/minictr/pkg/spec"
)

func BenchmarkCompile(b *testing.B) {
	s := spec.Default()
	s.Linux.CgroupsPath = "/minictr/golden"
	s.Process.Args = []string{"/bin/true"}
	data, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	if s, err = spec.Parse(data); err != nil {
		b.Fatal(err)
	}
	h := host("hybrid", s)
	for b.Loop() {
		if _, err := container.Compile(s, h); err != nil {
			b.Fatal(err)
		}
	}
}
