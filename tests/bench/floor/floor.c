// The floor: what minictr's plan for config.json does, written by hand in C,
// as a static program. A runtime that builds the same container by the same
// calls cannot be faster than this, save by leaving something out.
//
//	floor BUNDLE STATE CGROUP HIERARCHY...
//
// STATE is a directory to be made, CGROUP is below each of the cgroup v1
// hierarchies in /sys/fs/cgroup, without the slash in front.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

// must ends the program if a call failed.
#define must(call) ({                                          \
	long result = (call);                                  \
	if (result < 0) {                                      \
		fprintf(stderr, "line %d: ", __LINE__);        \
		perror(#call);                                 \
		_exit(1);                                      \
	}                                                      \
	result;                                                \
})

enum {
	RO = MOUNT_ATTR_RDONLY,
	SAFE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
	TO_FD = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
	MAX_HIERARCHIES = 32,
};

static char rootfs[4096];
static int root;  // the container's root mount
static int empty; // a mount of an empty directory
static char **hierarchies;
static int tasks[MAX_HIERARCHIES];

static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC));
	must(write(fd, text, strlen(text)));
	close(fd);
}

// resolve finds a path below the container's root.
static int resolve(const char *path, int flags)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | flags,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	return syscall(SYS_openat2, root, path, &how, sizeof how);
}

// make_mount makes a mount that is nowhere yet. Its options are pairs, where a
// flag has no value.
static int make_mount(const char *type, const char *source, const char **options, int attr)
{
	int fs = must(fsopen(type, FSOPEN_CLOEXEC));
	must(fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0));
	for (; options && *options; options += 2)
		must(fsconfig(fs, options[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[0], options[1], 0));
	must(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	return must(fsmount(fs, FSMOUNT_CLOEXEC, attr));
}

#define OPTIONS(...) ((const char *[]){__VA_ARGS__, NULL})

static void attach(int mount, const char *path)
{
	must(move_mount(mount, "", must(resolve(path, O_DIRECTORY)), "", TO_FD));
}

static void make_root(void)
{
	must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	root = must(open_tree(AT_FDCWD, rootfs, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
	empty = make_mount("tmpfs", "tmpfs", OPTIONS("nr_blocks", "1", "nr_inodes", "1"), RO);
	must(move_mount(empty, "", AT_FDCWD, rootfs, MOVE_MOUNT_F_EMPTY_PATH));
	must(move_mount(root, "", AT_FDCWD, rootfs, MOVE_MOUNT_F_EMPTY_PATH));
}

static void make_cgroup_mounts(void)
{
	int top = make_mount("tmpfs", "cgroup", OPTIONS("mode", "755"), SAFE);
	attach(top, "sys/fs/cgroup");
	for (char **h = hierarchies; *h; h++) {
		const char **options = strcmp(*h, "systemd") ? OPTIONS(*h, NULL) : OPTIONS("none", NULL, "name", *h);
		must(mkdirat(top, *h, 0755));
		must(move_mount(make_mount("cgroup", "cgroup", options, RO | SAFE), "", top, *h, MOVE_MOUNT_F_EMPTY_PATH));
	}
	struct mount_attr read_only = {.attr_set = RO};
	must(mount_setattr(top, "", AT_EMPTY_PATH, &read_only, sizeof read_only));
}

static void make_dev(void)
{
	static const struct {
		const char *name;
		int major, minor;
	} nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
	static const char *links[][2] = {
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"},
	};
	int dev = make_mount("tmpfs", "tmpfs", OPTIONS("mode", "755", "size", "65536k"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
	attach(dev, "dev");
	struct {
		const char *name;
		int mount;
	} below[] = {
		{"pts", make_mount("devpts", "devpts", OPTIONS("newinstance", NULL, "ptmxmode", "0666", "mode", "0620", "gid", "5"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)},
		{"shm", make_mount("tmpfs", "shm", OPTIONS("mode", "1777", "size", "65536k"), SAFE)},
		{"mqueue", make_mount("mqueue", "mqueue", NULL, SAFE)},
	};
	for (int i = 0; i < COUNT(below); i++) {
		must(mkdirat(dev, below[i].name, 0755));
		must(move_mount(below[i].mount, "", dev, below[i].name, MOVE_MOUNT_F_EMPTY_PATH));
	}
	for (int i = 0; i < COUNT(nodes); i++)
		must(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	for (int i = 0; i < COUNT(links); i++)
		must(symlinkat(links[i][0], dev, links[i][1]));
}

static void hide(void)
{
	static const char *read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
	static const char *masked[] = {
		"proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list",
		"proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi",
	};
	struct mount_attr attr = {.attr_set = RO};
	int clone = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
	for (int i = 0; i < COUNT(read_only); i++) {
		int at = resolve(read_only[i], 0);
		if (at < 0)
			continue;
		int tree = must(open_tree(at, "", clone | AT_EMPTY_PATH | AT_RECURSIVE));
		must(mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr));
		must(move_mount(tree, "", at, "", TO_FD));
	}
	for (int i = 0; i < COUNT(masked); i++) {
		int at = resolve(masked[i], O_DIRECTORY), tree;
		if (at >= 0) {
			tree = must(open_tree(empty, "", clone | AT_EMPTY_PATH));
		} else if (errno == ENOTDIR) {
			at = must(resolve(masked[i], 0));
			tree = must(open_tree(AT_FDCWD, "/dev/null", clone));
		} else {
			continue;
		}
		must(move_mount(tree, "", at, "", TO_FD));
	}
	must(mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof attr));
}

static void drop_privileges(void)
{
	const uint32_t kept = 1 << CAP_KILL | 1 << CAP_NET_BIND_SERVICE | 1 << CAP_AUDIT_WRITE;
	struct rlimit files = {1024, 1024};
	must(prlimit(0, RLIMIT_NOFILE, &files, NULL));
	must(syscall(SYS_setgroups, 0, NULL));
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (cap >= 32 || !(kept >> cap & 1))
			must(prctl(PR_CAPBSET_DROP, cap));
	must(prctl(PR_SET_KEEPCAPS, 1));
	must(syscall(SYS_setresgid, 0, 0, 0));
	must(syscall(SYS_setresuid, 0, 0, 0));
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{kept, kept, 0}};
	must(syscall(SYS_capset, &header, data));
}

static void child(void)
{
	for (int i = 0; hierarchies[i]; i++)
		must(write(tasks[i], "0", 1));
	must(unshare(CLONE_NEWCGROUP));
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	must(ioctl(must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), SIOCSIFFLAGS, &lo));
	must(sethostname("bench", 5));
	must(prctl(PR_SET_DUMPABLE, 0));
	umask(0);
	must(setsid());
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);

	make_root();
	attach(make_mount("proc", "proc", NULL, 0), "proc");
	make_dev();
	attach(make_mount("sysfs", "sysfs", NULL, RO | SAFE), "sys");
	make_cgroup_mounts();
	hide();

	must(fchdir(root));
	must(syscall(SYS_pivot_root, ".", "."));
	must(umount2(".", MNT_DETACH));
	must(chdir("/"));
	umask(022);
	drop_privileges();
	must(close_range(3, ~0u, CLOSE_RANGE_CLOEXEC));
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(prctl(PR_SET_PDEATHSIG, SIGKILL));
	char *argv[] = {"/bin/true", NULL};
	char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
	must(execve(argv[0], argv, env));
}

static void make_cgroups(const char *cgroup)
{
	static const char *allowed[] = {
		"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm",
	};
	char path[8192], parent[8192], text[256];
	for (int i = 0; hierarchies[i]; i++) {
		int n = snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], cgroup);
		must(mkdir(path, 0755));
		if (!strcmp(hierarchies[i], "devices")) {
			strcpy(path + n, "/devices.deny");
			write_file(path, "a");
			strcpy(path + n, "/devices.allow");
			int fd = must(open(path, O_WRONLY | O_CLOEXEC));
			for (int j = 0; j < COUNT(allowed); j++)
				must(write(fd, allowed[j], strlen(allowed[j])));
			close(fd);
		}
		for (int j = 0; j < 2 && !strcmp(hierarchies[i], "cpuset"); j++) {
			const char *name = j ? "cpuset.mems" : "cpuset.cpus";
			snprintf(parent, sizeof parent, "%.*s/../%s", n, path, name);
			int fd = must(open(parent, O_RDONLY | O_CLOEXEC));
			text[must(read(fd, text, sizeof text - 1))] = 0;
			close(fd);
			sprintf(path + n, "/%s", name);
			write_file(path, text);
		}
		strcpy(path + n, "/tasks");
		tasks[i] = must(open(path, O_WRONLY | O_CLOEXEC));
	}
}

static void remove_cgroups(const char *cgroup)
{
	char path[8192];
	for (char **h = hierarchies; *h; h++) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", *h, cgroup);
		must(rmdir(path));
	}
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc - 4 > MAX_HIERARCHIES)
		return 2;
	const char *bundle = argv[1], *state = argv[2], *cgroup = argv[3];
	hierarchies = argv + 4;
	char path[8192], config[16384];
	snprintf(rootfs, sizeof rootfs, "%s/rootfs", bundle);

	snprintf(path, sizeof path, "%s/config.json", bundle);
	int fd = must(open(path, O_RDONLY | O_CLOEXEC));
	must(read(fd, config, sizeof config));
	close(fd);
	must(mkdir(state, 0711));
	make_cgroups(cgroup);

	int pidfd, status;
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = must(syscall(SYS_clone3, &args, sizeof args));
	if (pid == 0)
		child();

	snprintf(path, sizeof path, "%s/state.json", state);
	fd = must(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	must(write(fd, config, 1024));
	close(fd);
	must(waitpid(pid, &status, 0));
	must(unlink(path));
	must(rmdir(state));
	remove_cgroups(cgroup);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
