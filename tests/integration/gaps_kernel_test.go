package integration_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minictr/minictr/pkg/wall"
)

// logLeak has the host write a line to the kernel log; one without its end would be shown with the next.
func logLeak(t *testing.T, h host) {
	nonce := fmt.Sprintf("minictr-it %016x", rand.Uint64())
	if err := os.WriteFile("/dev/kmsg", []byte(nonce+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	check := func(leaks bool, flags ...string) {
		t.Helper()
		said, g := h.watched(t, "log", "dmesg", flags...)
		if seen := strings.Contains(said, nonce); seen != leaks || (g.State == wall.Shared) != leaks {
			t.Errorf("%q: the host's line is to be seen: %v, and is: %v; the list says %+v", flags, leaks, seen, g)
		}
	}
	check(false)
	check(true, "--cap-add", "syslog")
	check(hostFile(t, restrict) == "0", "--without", "seccomp")
	if !throwAway(t) {
		return
	}
	before := hostFile(t, restrict)
	defer sysctl(t, restrict, before)
	sysctl(t, restrict, "0")
	check(false)
	check(true, "--without", "seccomp")
}

const restrict = "/proc/sys/kernel/dmesg_restrict"

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(value), 0); err != nil {
		t.Error(err)
	}
}

// keysLeak has the host's root keep a key in its user keyring.
func keysLeak(t *testing.T, h host) {
	runtime.LockOSThread() // keyrings belong to threads; this one ends with the test
	if _, err := unix.KeyctlJoinSessionKeyring("minictr-it"); err != nil {
		t.Fatal(err)
	}
	name, secret := fmt.Sprintf("minictr-it-%016x", rand.Uint64()), fmt.Sprintf("%032x", rand.Uint64())
	key, err := unix.AddKey("user", name, []byte(secret), unix.KEY_SPEC_USER_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0); err != nil {
			t.Error(err)
		}
	}()
	keyring := func(n int) uint64 { return uint64(n) }
	read := ask(t, len(secret), // who links the keyring to its own has what is in it
		do(unix.SYS_KEYCTL, unix.KEYCTL_LINK, keyring(unix.KEY_SPEC_USER_KEYRING), keyring(unix.KEY_SPEC_SESSION_KEYRING)),
		do(unix.SYS_KEYCTL, unix.KEYCTL_READ, uint64(key), answer, uint64(len(secret))))
	for _, c := range []struct {
		without      string
		named, known bool
	}{{"", false, false}, {"masks", true, false}, {"seccomp", false, true}} {
		flags := []string{"-v", read}
		if c.without != "" {
			flags = append(flags, "--without", c.without)
		}
		said, g := h.watched(t, "keys", "cat /proc/keys; /ask", flags...)
		if strings.Contains(said, name) != c.named || strings.Contains(said, secret) != c.known || (g.State == wall.Shared) != (c.named || c.known) {
			t.Errorf("without %q: the key's name is to be seen: %v, and what is in it: %v\n%s\nand the list says %+v", c.without, c.named, c.known, said, g)
		}
	}
}

// sysctlsLeak opens terminals, which the kernel counts for all of its mounts of
// devpts. In a machine to throw away, a setting is changed from both sides.
func sysctlsLeak(t *testing.T, h host) {
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const count = "/proc/sys/kernel/pty/nr"
	before, nonce := number(hostFile(t, count)), 100+rand.IntN(100)
	for range nonce {
		f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	within(t, "the number of terminals", number(h.says(t, "cat "+count)), before+nonce, before+nonce, 10) // other tests open some
	if !throwAway(t) {
		return
	}
	const files = "/proc/sys/fs/file-max" // so many that the limit is none
	old := hostFile(t, files)
	defer sysctl(t, files, old)
	outside := strconv.FormatInt(1<<40+rand.Int64N(1<<40), 10)
	sysctl(t, files, outside)
	if got := h.says(t, "cat "+files); got != outside {
		t.Errorf("the host has set %s, and inside it is %s", outside, got)
	}
	for _, flags := range [][]string{nil, {"--without", "masks"}} {
		inside := strconv.FormatInt(1<<40+rand.Int64N(1<<40), 10)
		_, g := h.watched(t, "sysctls", "echo "+inside+" > "+files, flags...)
		set, may := hostFile(t, files) == inside, strings.Contains(g.Means, "may set them")
		if set != (flags != nil) || may != set {
			t.Errorf("%q: a container has set the host's: %v, and the list says %+v", flags, set, g)
		}
	}
}

// entropyLeak compares the state of the pool, and no more: what is put into it
// can't be found again, or it would be no pool of random numbers.
func entropyLeak(t *testing.T, h host) {
	const avail, size = "/proc/sys/kernel/random/entropy_avail", "/proc/sys/kernel/random/poolsize"
	bits := hostFile(t, avail)
	n, err := strconv.ParseUint(bits, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	want := bits + "\n" + hostFile(t, size) + "\n" + string(binary.NativeEndian.AppendUint32(nil, uint32(n)))
	count := ask(t, 4, open("/dev/urandom"), do(unix.SYS_IOCTL, 3, unix.RNDGETENTCNT, answer))
	if got := h.must(t, "run", "-v", count, "tiny", "sh", "-c", "cat "+avail+" "+size+"; /ask"); got != want {
		t.Errorf("the pool is %q inside, %q outside", got, want)
	}
}

// cacheLeak writes down a number by reading: of a file on a disk, the host
// reads the pages whose bits are set. A container, which has the same file and
// reads none of it, tells them by mincore(2).
func cacheLeak(t *testing.T, h host) {
	const pages, page = 64, 4096
	at := h.disk(t, 8<<20)
	f, err := os.Create(filepath.Join(at, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err = f.Write(make([]byte, pages*page)); err == nil {
		err = f.Sync() // what is not written yet can't be dropped
	}
	if err == nil {
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM) // and reading one page reads no other
	}
	if err != nil {
		t.Fatal(err)
	}
	resident := ask(t, pages, open("/file"),
		do(unix.SYS_MMAP, mapping, pages*page, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED, 3, 0),
		do(unix.SYS_MINCORE, mapping, pages*page, answer))
	for range 2 {
		nonce, read := rand.Uint64(), uint64(0)
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		for i := range pages {
			if nonce>>i&1 == 1 {
				if _, err := f.ReadAt(make([]byte, page), int64(i)*page); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := h.asks(t, resident, "-v", f.Name()+":/file:ro")
		for i := range len(got) {
			read |= uint64(got[i]&1) << i
		}
		if len(got) != pages || read != nonce {
			t.Errorf("the host has read the pages %016x, and the container finds %016x", nonce, read)
		}
	}
}
