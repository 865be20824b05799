package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minictr/minictr/pkg/cgroup"
)

func TestWords(t *testing.T) {
	now := time.Now()
	for want, s := range map[string]Status{
		"Created":                     {Phase: Created},
		"Up 5 minutes":                {Phase: Running, Started: now.Add(-5 * time.Minute)},
		"Up 3 seconds (Paused)":       {Phase: Paused, Started: now.Add(-3 * time.Second)},
		"Exited (137) 2 hours ago":    {Phase: Exited, ExitCode: 137, Finished: now.Add(-2 * time.Hour)},
		"Exited":                      {Phase: Exited}, // nobody was there to see it
		"Restarting (1) 1 second ago": {Phase: Restarting, ExitCode: 1, Finished: now.Add(-time.Second)},
	} {
		if got := s.Words(now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMountsOf(t *testing.T) {
	root := t.TempDir()
	e := &Engine{Root: root}
	dir := filepath.Join(root, "containers", "1-own")
	c := &Container{dir: dir, engine: e}
	bind := func(source, destination string, options ...string) specs.Mount {
		return specs.Mount{Type: "bind", Source: source, Destination: destination, Options: options}
	}
	got := c.mountsOf(&specs.Spec{Mounts: []specs.Mount{
		{Type: "proc", Destination: "/proc"},
		bind("/srv/a", "/a", "rbind", "rprivate", "ro", "nosuid"),
		bind(filepath.Join(root, "volumes", "db", "files"), "/db", "rbind", "rshared"),
		bind("hosts", "/etc/hosts", "rbind"),
		bind(filepath.Join(root, "containers", "1-other", "resolv.conf"), "/etc/resolv.conf", "rbind"),
		bind("data", "/data", "rbind"),
	}})
	want := []Mount{
		{Type: "bind", Source: "/srv/a", Destination: "/a", Mode: "ro,nosuid", Propagation: "rprivate"},
		{Type: "volume", Name: "db", Driver: "local", Source: filepath.Join(root, "volumes", "db", "files"), Destination: "/db", Mode: "rshared", RW: true, Propagation: "rshared"},
		{Type: "bind", Source: filepath.Join(dir, "data"), Destination: "/data", RW: true, Propagation: "rprivate"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// TestInspect reads what a command has left of a container, and is no more.
func TestInspect(t *testing.T) {
	e := &Engine{Root: t.TempDir()}
	e.Runtime.Root = t.TempDir()
	o := Options{Image: "app", Args: []string{"/bin/app", "-v"}, Labels: []string{"a=1"}, LogOpts: []string{"max-size=1m"}}
	o.Memory, o.CPUs, o.CapAdd = "32m", "1.5", []string{"net_admin"}
	s, _, err := Spec("0123456789ab", alpine(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := &Container{ID: "0123456789ab", Name: "web", Command: s.Process.Args, Created: time.Unix(1, 0), Options: o, Restart: Restart{"on-failure", 3}, engine: e}
	c.dir = e.bundle(c.ID)
	if err := os.MkdirAll(filepath.Join(c.dir, "upper", "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"one": "12345", "a/two": "123"} {
		if err := os.WriteFile(filepath.Join(c.dir, "upper", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(c.dir, "upper", "one"), filepath.Join(c.dir, "upper", "again")); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.writeStatus(Status{Phase: Exited, ExitCode: 3, Restarts: 2}); err != nil {
		t.Fatal(err)
	}
	if own, _, err := c.Sizes(); err != nil || own != 8 {
		t.Errorf("size: %d, %v", own, err)
	}
	i, err := e.Inspect(c)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"Id":"0123456789ab","Created":"1970-01-01T00:00:01Z","Path":"/bin/app","Args":["-v"],"State":{"Status":"exited","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":3,"Error":"","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"}`,
		`"Name":"/web"`, `"RestartCount":2`, `"NetworkMode":"none"`, `"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}`, `"CapAdd":["net_admin"]`,
		`"Memory":33554432,`, `"NanoCpus":1500000000,"CpuShares":0,"CpuPeriod":0,"CpuQuota":0,`, `"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}}`,
		`"Labels":{"a":"1","maker":"nobody"}`, `"Networks":{"none":{`, `"Ports":{}`, `"Mounts":[]`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}

func TestUsage(t *testing.T) {
	start := time.Now()
	before := Usage{At: start, CPU: time.Second}
	for cpu, want := range map[time.Duration]float64{time.Second: 0, 1500 * time.Millisecond: 25, 5 * time.Second: 200, 0: 0} {
		if got := (Usage{At: start.Add(2 * time.Second), CPU: cpu}).Load(before); got != want {
			t.Errorf("%v: %v%%, want %v%%", cpu, got, want)
		}
	}
	for _, c := range []struct {
		stat map[string]uint64
		want uint64
	}{{nil, 100}, {map[string]uint64{"inactive_file": 30}, 70}, {map[string]uint64{"inactive_file": 1, "total_inactive_file": 40}, 60}, {map[string]uint64{"inactive_file": 130}, 0}} {
		if got := inUse(cgroup.MemoryStats{Usage: 100, Stat: c.stat}); got != c.want {
			t.Errorf("%v: %d, want %d", c.stat, got, c.want)
		}
	}
	var u Usage
	if err := u.readNetwork(os.Getpid()); err != nil {
		t.Error(err)
	}
	if err := u.readNetwork(1 << 30); err != nil {
		t.Errorf("of a process that has ended: %v", err)
	}
}
