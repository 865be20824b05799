package rootfs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/forkexec"
)

// The test binary is the multi-call program of the images that the tests
// write, as minictr is of the real one.
func TestMain(m *testing.M) {
	if run, ok := Applet(filepath.Base(os.Args[0])); ok {
		os.Exit(run(os.Args))
	}
	os.Exit(m.Run())
}

// members reads the layout that Write makes.
func members(t *testing.T) map[string][]byte {
	t.Helper()
	var layout bytes.Buffer
	if err := Write(&layout); errors.Is(err, ErrDynamic) {
		t.Skip("the test binary is built with cgo (as -race needs), and can't be in an image")
	} else if err != nil {
		t.Fatal(err)
	}
	return untar(t, layout.Bytes())
}

func untar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// blob returns what a descriptor points to, with digest and size verified.
func blob(t *testing.T, files map[string][]byte, d ispec.Descriptor) []byte {
	t.Helper()
	data, ok := files["blobs/sha256/"+d.Digest.Encoded()]
	if !ok {
		t.Fatalf("no blob %s", d.Digest)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != d.Digest.Encoded() || int64(len(data)) != d.Size {
		t.Fatalf("blob %s of %d bytes has digest %x, %d bytes", d.Digest, d.Size, sum, len(data))
	}
	return data
}

func read[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// image reads manifest and configuration.
func image(t *testing.T, files map[string][]byte) (ispec.Manifest, ispec.Image) {
	t.Helper()
	index := read[ispec.Index](t, files["index.json"])
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations[ispec.AnnotationRefName] != Name {
		t.Fatalf("index: %+v", index)
	}
	manifest := read[ispec.Manifest](t, blob(t, files, index.Manifests[0]))
	return manifest, read[ispec.Image](t, blob(t, files, manifest.Config))
}

func TestLayout(t *testing.T) {
	files := members(t)
	if l := read[ispec.ImageLayout](t, files["oci-layout"]); l.Version != "1.0.0" {
		t.Errorf("oci-layout: %+v", l)
	}
	manifest, config := image(t, files)
	id, err := ID()
	if err != nil || config.Config.Labels[LabelID] != id {
		t.Errorf("label %q, ID %q, %v", config.Config.Labels[LabelID], id, err)
	}
	if !slices.Equal(config.Config.Cmd, []string{"/bin/sh"}) || config.OS != "linux" {
		t.Errorf("config: %+v", config)
	}
	if len(manifest.Layers) != 3 || len(config.RootFS.DiffIDs) != 3 {
		t.Fatalf("%d layers, %d diff ids", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	var names []map[string][]byte
	for i, d := range manifest.Layers {
		if d.Digest != config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d is not compressed, but digest and diff id differ", i)
		}
		names = append(names, untar(t, blob(t, files, d)))
	}
	for _, want := range []struct {
		layer int
		name  string
	}{
		{0, "etc/deleted"},
		{2, "etc/.wh.deleted"},
		{0, "usr/share/layers/first"},
		{2, "usr/share/layers/.wh..wh..opq"},
		{1, "bin/tiny"},
		{1, "bin/sh"},
		{1, "bin/pause"},
		{2, "etc/motd"},
	} {
		if _, ok := names[want.layer][want.name]; !ok {
			t.Errorf("layer %d has no %s", want.layer, want.name)
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	a, b := members(t), members(t)
	if string(a["index.json"]) != string(b["index.json"]) || len(a) != len(b) {
		t.Error("two images of one program differ")
	}
}

func TestApplet(t *testing.T) {
	for _, name := range []string{
		"sh", "ls", "cat", "ps", "mount", "hostname", "id", "uname", "free", "dmesg", "ip", "ping", "kill",
		"sleep", "env", "df", "dd", "stat", "grep", "wc", "sort", "head", "tail", "burn-cpu", "burn-disk", "tiny",
	} {
		if _, ok := Applet(name); !ok {
			t.Errorf("no applet %s", name)
		}
	}
	for _, name := range []string{"minictr", "runc", "", "pause", "lsx"} {
		if _, ok := Applet(name); ok {
			t.Errorf("applet %q", name)
		}
	}
}

// root unpacks the image with GNU tar, which knows nothing of whiteouts.
func root(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	files := members(t)
	manifest, _ := image(t, files)
	dir := t.TempDir()
	for _, d := range manifest.Layers {
		cmd := exec.Command("tar", "-xf", "-", "-C", dir)
		cmd.Stdin = bytes.NewReader(blob(t, files, d))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
	}
	return dir
}

// inside runs a shell in the image, as PID 1 of its own PID namespace with its
// own /proc.
func inside(t *testing.T, dir, script string) (string, int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "mount -t proc proc /proc\n"+script)
	cmd.Env = []string{"PATH=/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &unix.SysProcAttr{
		Chroot: dir, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS, Unshareflags: unix.CLONE_NEWNS,
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestInside(t *testing.T) {
	dir := root(t)
	for _, c := range []struct {
		name, script, want string
		code               int
	}{
		{"pipeline", `ls /etc | grep -c .; echo "c b a" | wc -w`, "6\n3\n", 0},
		{"pid 1", `echo $$; ps | grep -c "[0-9] root"`, "1\n3\n", 0},
		{"copy of the program", "exec readlink /proc/self/exe", "/bin/tiny\n", 0},
		{"exit status", "exit 7", "", 7},
		{"not found", "nosuch", "\"nosuch\": executable file not found in $PATH\n", 127},
		{"exec", "exec ps", "", -1},
		{"exec of nothing", "exec nosuch; echo no", "sh: execve nosuch: no such file or directory\n", 127},
		{"subshell and exec", "(exec echo in; echo not); echo $(exec echo sub); exec echo last; echo not", "in\nsub\nlast\n", 0},
		{"job", "{ echo a; exit 3; } & wait $!; echo $?", "a\n3\n", 0},
		{"trap as pid 1", "trap 'echo got; exit 3' TERM; kill -TERM 1; while :; do sleep 0.01; done", "got\n", 3},
		{"trap and no more as pid 1", "trap 'echo got' TERM; trap - TERM; kill -TERM 1; sleep 0.1; echo alive", "alive\n", 0},
		{"no handler as pid 1", "kill -TERM 1; kill -INT 1; sleep 0.1; echo alive", "alive\n", 0},
		{"an applet as pid 1", "(sleep 0.2; kill -TERM 1; kill -QUIT 1) & exec sleep 1", "", 0},
		{"killed", "sh -c 'kill -KILL $$'; echo $?", "killed\n137\n", 0},
		{"files", "cd /tmp; mkdir -p a/b; echo x >a/b/c; cat a/b/c >d; mv d e; ln -s e f; cat f; rm -r a e f; ls", "x\n", 0},
		{"hostname", "hostname inside; hostname; uname -n", "inside\ninside\n", 0},
		{"zombie", "zombie & until ps | grep -q 'Z .*\\[zombie\\]'; do sleep 0.02; done; echo there", "my child has ended, and I never wait for it\nthere\n", 0},
		{"orphan", "orphan; echo $?; ps | grep -c '[0-9] orphan'; sleep 1.3; ps | grep -c 'Z .*\\[orphan\\]'", "0\n1\n1\n", 0},
		{"port", "cd /tmp; listen 127.0.0.1:1 >said & until grep -q listening said; do sleep 0.02; done; cat said; listen 127.0.0.1:1", "listening on 127.0.0.1:1\nlisten: listen tcp4 127.0.0.1:1: bind: address already in use\n", 1},
		{"env", "X=1 env -i Y=2 env", "Y=2\n", 0},
		{
			"mount", "mount -t tmpfs -o size=1m,ro none /tmp; touch /tmp/x; umount /tmp; touch /tmp/x; rm /tmp/x",
			"touch: open /tmp/x: read-only file system\n", 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, code := inside(t, dir, c.script)
			if c.code == -1 { // the shell is gone: ps is PID 1
				c.want, c.code = got, 0
				if !strings.Contains(got, "\n    1 root ") || !strings.HasSuffix(got, " 0:00 ps\n") || strings.Count(got, "\n") != 2 {
					t.Errorf("PID 1 is not ps: %s", got)
				}
			}
			if got != c.want || code != c.code {
				t.Errorf("%s\nprints %q, exits with %d;\nwant   %q, %d", c.script, got, code, c.want, c.code)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	files := members(t)
	manifest, written := image(t, files)
	told := Describe()
	if told.Layers != len(manifest.Layers) || told.User != written.Config.User || told.WorkingDir != written.Config.WorkingDir ||
		!slices.Equal(told.Env, written.Config.Env) || !slices.Equal(told.Cmd, written.Config.Cmd) ||
		!maps.Equal(told.Labels, written.Config.Labels) {
		t.Errorf("described as %+v, written as %+v with %d layers", told, written.Config, len(manifest.Layers))
	}
	base := untar(t, blob(t, files, manifest.Layers[0]))
	for name, want := range map[string]string{
		"/etc/passwd": string(base["etc/passwd"]), "etc/../etc/group": string(base["etc/group"]),
		"/etc/deleted": "", "/etc/shadow": "", "/bin/tiny": "", "/sbin": "", "/usr/share/layers/first": "-", "/etc": "",
	} {
		if got, err := ReadFile(name); want != "-" && (string(got) != want || errors.Is(err, fs.ErrNotExist) != (want == "")) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestPauseAsPID1(t *testing.T) {
	cmd := exec.Command(filepath.Join(root(t), "bin/pause"))
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("SIGTERM ended PID 1: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestBurnPIDsIsBounded(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, p := range programs() {
		if p.name != "burn-pids" {
			continue
		}
		file := filepath.Join(t.TempDir(), p.name)
		content, err := forkexec.Program(p.steps)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o755); err != nil {
			t.Fatal(err)
		}
		group := "/sys/fs/cgroup/pids/rootfs-test-" + filepath.Base(filepath.Dir(filepath.Dir(file)))
		if err := os.Mkdir(group, 0o755); err != nil {
			t.Skipf("no pids hierarchy of cgroup v1: %v", err)
		}
		t.Cleanup(func() { emptyGroup(t, group) })
		if err := os.WriteFile(group+"/pids.max", []byte("20"), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", "echo 0 >"+group+"/cgroup.procs; exec "+file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		deadline := time.Now().Add(10 * time.Second)
		for time.Now().Before(deadline) {
			if n, _ := os.ReadFile(group + "/pids.current"); strings.TrimSpace(string(n)) == "20" {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		n, _ := os.ReadFile(group + "/pids.current")
		t.Errorf("pids.current is %s, want the limit of 20", n)
	}
}

func emptyGroup(t *testing.T, group string) {
	for range 100 {
		procs, err := os.ReadFile(group + "/cgroup.procs")
		if err != nil {
			t.Error(err)
			return
		}
		pids := strings.Fields(string(procs))
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if len(pids) == 0 && os.Remove(group) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s is left", group)
}
