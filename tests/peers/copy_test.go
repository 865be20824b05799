package peers_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// copies are calls of cp, from a directory of the host: h has the same files
// there as w has in the container. What is said after # is why the two differ.
var copies = []string{
	// A file, to all that there may be.
	"cp h/file box:/w/new",
	"cp h/file box:/w/other",
	"cp h/file box:/w/dir",
	"cp h/file box:/w/dir/",
	"cp h/file box:/w/none/",
	"cp h/file box:/w/none/new",
	"cp h/file box:w/new",
	"cp h/file box:/w/link",
	"cp h/file box:/w/dlink",
	"cp h/file box:/w/dangling",
	"cp h/file box:/w/other/",
	"cp h/file box:/w/../w/new",
	"cp ./h/other box:/w/dir/in",
	"cp h/none box:/w",
	"cp h/file/ box:/w",
	// A directory.
	"cp h/dir box:/w/new",
	"cp h/dir box:/w/new/",
	"cp h/dir box:/w/empty",
	"cp h/dir/ box:/w/empty",
	"cp h/dir/. box:/w/empty",
	"cp h/dir/. box:/w/new",
	"cp h/dir box:/w",
	"cp h/dir/. box:/w/dir",
	"cp h/dir box:/w/file",
	"cp h/dir box:/w/none/new",
	"cp h/. box:/w/empty # Docker refuses a link that leads out of where it is copied to",
	"cp h/file box:/w/meets",
	"cp h/meets box:/w/empty",
	"cp h/turned/. box:/w/meets",
	// Links.
	"cp h/link box:/w/empty",
	"cp -L h/link box:/w/empty",
	"cp h/dlink box:/w/empty",
	"cp h/dlink/ box:/w/empty",
	"cp -L h/dlink box:/w/empty",
	"cp h/dangling box:/w/empty",
	"cp -L h/dangling box:/w/empty",
	// Back.
	"cp box:/w/file h/new # it becomes ours, and has not the power that another gave it",
	"cp box:/w/file h/other # it becomes ours, and has not the power that another gave it",
	"cp box:/w/file h/dir # it becomes ours, and has not the power that another gave it",
	"cp box:/w/file h/none/",
	"cp box:/w/file h/none/new",
	"cp box:/w/file h/link # it becomes ours, and has not the power that another gave it",
	"cp box:/w/file h/dlink # it becomes ours, and has not the power that another gave it",
	"cp box:/w/dir h/new",
	"cp box:/w/dir h/empty",
	"cp box:/w/dir/. h/empty",
	"cp box:/w/dir/. h/new",
	"cp box:/w/dir h/file",
	"cp -a box:/w/dir h/empty # Docker says that -a keeps owners, and does not",
	"cp -a box:/w/file h/new # Docker says that -a keeps owners, and does not",
	"cp box:/w/link h/empty",
	"cp -L box:/w/link h/empty # it becomes ours, and has not the power that another gave it",
	"cp box:/w/dlink h/empty",
	"cp -L box:/w/dlink h/empty",
	"cp box:/w/dlink/ h/empty",
	"cp -L box:/w/dangling h/empty",
	"cp box:/w/none h",
	"cp box:/w/file/ h",
	"cp box:/w/up h/empty # Docker refuses a link that leads out of where it is copied to",
	"cp -L box:/w/up h/empty",
	"cp box:/w/file .",
	// As a tar.
	"cp box:/w/dir - | tar -C h/empty -x",
	"cp box:/w/dir/. - | tar -C h/empty -x",
	"cp -L box:/w/link - | tar -C h/empty -x",
	"tar -C h -c dir file | $M cp - box:/w/empty",
	"tar -C h -c dir | $M cp - box:/w/file",
	"tar -C h -c dir | $M cp - box:/w/none",
	// Wrong.
	"cp h/file h/new",
	"cp box:/w/file box:/w/new",
	"cp nobody:/w/file h",
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
$M exec box sh -c 'rm -rf /w; mkdir /w; cd /w;`+makeFiles+`' sh container
`+call+` >out 2>err
echo "exit $(test $? = 0 && echo 0 || echo not 0)"
cat err >&2
(cd h; busybox sh -c "$LIST"); $M exec box sh -c "cd /w; $LIST"`)
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
		theirs + " run -d --network none --name box busybox sleep 1000000",
	} {
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	words := strings.Fields(ours)
	run := exec.Command(words[0], append(words[1:], "run", "--name", "box", "busybox", "sleep", "1000000")...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("sh", "-c", theirs+" rm -f box").Run()
		_ = run.Process.Kill()
		_ = run.Wait()
		_ = exec.Command("sh", "-c", ours+" rm -f box").Run()
	})
	for end := time.Now().Add(patience); exec.Command(words[0], append(words[1:], "exec", "box", "true")...).Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("our container does not run")
		}
	}
	for _, call := range copies {
		t.Run(strings.NewReplacer("/", "_", " ", "_").Replace(call), func(t *testing.T) {
			call, why, differs := strings.Cut(call, " # ")
			env := []string{"TMPDIR=" + t.TempDir()}
			want, got := answer(t, theirs, call, env), answer(t, ours, call, env)
			if (got == want) == differs {
				t.Errorf("%s: minictr makes\n%s\nand docker\n%s\n%s", call, got, want, why)
			}
		})
	}
	change := "exec box sh -c 'rm -rf /w; mkdir /etc/d; echo >/etc/d/f; rm /etc/plain /bin/vi; echo x >>/etc/group; chmod 700 /root; rm -r /tmp; mkdir /tmp'"
	var lists [2]string
	for i, m := range []string{theirs, ours} {
		out, err := exec.Command("sh", "-c", m+" "+change+"; "+m+" diff box | LC_ALL=C sort -k2").CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		lists[i] = string(out)
	}
	if lists[0] != lists[1] {
		t.Errorf("docker's diff is\n%s\nand minictr's\n%s", lists[0], lists[1])
	}
}
