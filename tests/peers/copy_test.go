package peers_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// copies are calls of cp, from a directory of the host: h has the same files
// there as w has in the container. What is said after # is why the two differ.
var copies = []string{
	// A file, to all that there may be.
	"cp h/file c:/w/new",
	"cp h/file c:/w/other",
	"cp h/file c:/w/dir",
	"cp h/file c:/w/dir/",
	"cp h/file c:/w/none/",
	"cp h/file c:/w/none/new",
	"cp h/file c:w/new",
	"cp h/file c:/w/link",
	"cp h/file c:/w/dlink",
	"cp h/file c:/w/dangling",
	"cp h/file c:/w/other/",
	"cp h/file c:/w/../w/new",
	"cp ./h/other c:/w/dir/in",
	"cp h/none c:/w",
	"cp h/file/ c:/w",
	// A directory.
	"cp h/dir c:/w/new",
	"cp h/dir c:/w/new/",
	"cp h/dir c:/w/empty",
	"cp h/dir/ c:/w/empty",
	"cp h/dir/. c:/w/empty",
	"cp h/dir/. c:/w/new",
	"cp h/dir c:/w",
	"cp h/dir/. c:/w/dir",
	"cp h/dir c:/w/file",
	"cp h/dir c:/w/none/new",
	"cp h/. c:/w/empty",
	"cp h/file c:/w/meets",
	"cp h/meets c:/w/empty",
	"cp h/turned/. c:/w/meets",
	// Links.
	"cp h/link c:/w/empty",
	"cp -L h/link c:/w/empty",
	"cp h/dlink c:/w/empty",
	"cp h/dlink/ c:/w/empty",
	"cp -L h/dlink c:/w/empty",
	"cp h/dangling c:/w/empty",
	"cp -L h/dangling c:/w/empty",
	// Back.
	"cp c:/w/file h/new",
	"cp c:/w/file h/other",
	"cp c:/w/file h/dir",
	"cp c:/w/file h/none/",
	"cp c:/w/file h/none/new",
	"cp c:/w/file h/link",
	"cp c:/w/file h/dlink",
	"cp c:/w/dir h/new",
	"cp c:/w/dir h/empty",
	"cp c:/w/dir/. h/empty",
	"cp c:/w/dir/. h/new",
	"cp c:/w/dir h/file",
	"cp -a c:/w/dir h/empty",
	"cp -a c:/w/file h/new",
	"cp c:/w/link h/empty",
	"cp -L c:/w/link h/empty",
	"cp c:/w/dlink h/empty",
	"cp -L c:/w/dlink h/empty",
	"cp c:/w/dlink/ h/empty",
	"cp -L c:/w/dangling h/empty",
	"cp c:/w/none h",
	"cp c:/w/file/ h",
	"cp c:/w/up h/empty",
	"cp -L c:/w/up h/empty",
	"cp c:/w/file .",
	// As a tar.
	"cp c:/w/dir - | tar -C h/empty -x",
	"cp c:/w/dir/. - | tar -C h/empty -x",
	"cp -L c:/w/link - | tar -C h/empty -x",
	"tar -C h -c dir file | $M cp - c:/w/empty",
	"tar -C h -c dir | $M cp - c:/w/file",
	"tar -C h -c dir | $M cp - c:/w/none",
	// Wrong.
	"cp h/file h/new",
	"cp c:/w/file c:/w/new",
	"cp x:/w/file h",
}

// makeFiles makes the files in the working directory.
const makeFiles = `
mkdir -p dir/sub empty meets/file turned
echo $1 one >file; echo $1 two >other; echo $1 three >dir/in; echo $1 four >dir/sub/deep; echo $1 five >turned/file
ln -s file link; ln -s dir dlink; ln -s none dangling; ln -s ../../../../etc/plain up
chmod 4750 file; chmod 2750 dir; chown -R 1000:1001 file dir; chmod 4750 file; chmod 2750 dir
find . | xargs touch -h -d "2001-02-03 04:05:06"
`

// listFiles lists all that cp can change in the working directory. Times are old,
// or of now.
const listFiles = `
find . | sort | xargs stat -c '%N %A %u:%g %Y' | awk '{ $NF = $NF < 1500000000 ? "old" : "new"; print }'
find . -type f | sort | xargs md5sum
`

// answer is what a call does, to both trees, and how it ends.
func answer(t *testing.T, program, call string, env []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	call = strings.Replace("\n"+call, "\ncp ", "$M cp ", 1)
	sh := exec.CommandContext(ctx, "sh", "-c", `cd $(mktemp -d)
mkdir h; (cd h; busybox sh -c '`+makeFiles+`' sh host)
$M exec c sh -c 'rm -rf /w; mkdir /w; cd /w;`+makeFiles+`' sh container
`+call+` >out 2>err
echo "exit $(test $? = 0 && echo 0 || echo not 0)"
cat err >&2
(cd h; busybox sh -c "$LIST"); $M exec c sh -c "cd /w; $LIST"`)
	sh.Env = append(append(os.Environ(), "M="+program, "LIST="+listFiles), env...)
	var out, said bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &said
	if err := sh.Run(); err != nil {
		t.Errorf("%s: %v: %s", call, err, said.String())
	}
	if said.Len() > 0 {
		t.Logf("%s: %s", program, strings.TrimSpace(said.String()))
	}
	return out.String()
}

// TestCopy has the same files copied by Docker and by minictr.
func TestCopy(t *testing.T) {
	needs(t, "dockerd", "docker", "tar", "busybox", "ip")
	dir := t.TempDir()
	ours := scratch + "/minictr --root " + dir + "/run --data-root " + dir + "/data"
	theirs := "docker --host " + dockerd(t)
	for _, line := range []string{
		"tar -C " + rootfs(t) + " -c . | " + ours + " import - busybox",
		theirs + " run -d --network none --name c busybox sleep 1000000",
	} {
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	words := strings.Fields(ours)
	run := exec.Command(words[0], append(words[1:], "run", "--name", "c", "busybox", "sleep", "1000000")...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("sh", "-c", theirs+" rm -f c").Run()
		_ = run.Process.Kill()
		_ = run.Wait()
		_ = exec.Command("sh", "-c", ours+" rm -f c").Run()
	})
	for end := time.Now().Add(patience); exec.Command(words[0], append(words[1:], "exec", "c", "true")...).Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("our container does not run")
		}
	}
	for _, call := range copies {
		t.Run(filepath.Base(call), func(t *testing.T) {
			call, why, differs := strings.Cut(call, " # ")
			env := []string{"TMPDIR=" + t.TempDir()}
			want, got := answer(t, theirs, call, env), answer(t, ours, call, env)
			if (got == want) == differs {
				t.Errorf("%s: minictr makes\n%s\nand docker\n%s\n%s", call, got, want, why)
			}
		})
	}
	change := "exec c sh -c 'rm -rf /w; mkdir /etc/d; echo >/etc/d/f; rm /etc/plain /bin/vi; echo x >>/etc/group; chmod 700 /root; rm -r /tmp; mkdir /tmp'"
	var lists [2]string
	for i, m := range []string{theirs, ours} {
		out, err := exec.Command("sh", "-c", m+" "+change+"; "+m+" diff c | LC_ALL=C sort -k2").CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		lists[i] = string(out)
	}
	if lists[0] != lists[1] {
		t.Errorf("docker's diff is\n%s\nand minictr's\n%s", lists[0], lists[1])
	}
}
