#include "emitter/confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emitter/durable.h"

/* CLONE_NEWNS to CLONE_NEWNET, and CLONE_NEWTIME, which shares a bit with the exit signal. */
#define NAMESPACES (0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000)

#define FILTER_MAX 4096 /* instructions: as many as the kernel takes */

/* What probes need, and why. Which of them are held the report tells. */
static const unsigned needed[] = {
	CAP_DAC_READ_SEARCH, /* what only root may read: shadow, sudoers, update keys */
	CAP_SYS_PTRACE, /* /proc/PID/fd of others: whose socket it is */
	CAP_NET_ADMIN, /* the packet filter tells its rules to nobody else */
};

/* ---- the user ---- */

int
confine_find_user(const char *name, struct confine_user *user, char *error)
{
	const struct passwd *entry;

	errno = 0;
	entry = getpwnam(name);
	if (!entry) {
		snprintf(error, ERROR_SIZE, "user: %s: %s", name, errno ? strerror(errno) : "no such user");
		return -1;
	}
	*user = (struct confine_user){entry->pw_uid, entry->pw_gid};
	return 0;
}

/* Only what root owns, and nothing below a directory that is the user's already, which may hold links of the user's making. Each directory after what is
   in it, so that none can be put there meanwhile. */
int
confine_hand_over(const char *directory, const struct confine_user *user, char *error)
{
	char *const paths[] = {(char *)(uintptr_t)directory, NULL};
	struct stat st;
	FTSENT *entry;
	FTS *tree;
	int rc = 0;

	if (geteuid() != 0)
		return 0;
	if (mkdir(directory, 0700) != 0 && errno != EEXIST)
		goto fail;
	if (lstat(directory, &st) != 0)
		goto fail;
	if (st.st_uid != 0 || user->uid == 0)
		return 0;
	tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	if (!tree)
		goto fail;
	while (rc == 0 && (entry = fts_read(tree)))
		if (entry->fts_info == FTS_D && entry->fts_statp->st_uid != 0)
			(void)fts_set(tree, entry, FTS_SKIP);
		else if (entry->fts_info != FTS_D && entry->fts_statp->st_uid == 0)
			rc = lchown(entry->fts_accpath, user->uid, user->gid);
	fts_close(tree);
	if (rc == 0)
		return 0;
fail:
	snprintf(error, ERROR_SIZE, "%.120s can't be given to the emitter's user: %s", directory, strerror(errno));
	return -1;
}

static int
become(const struct confine_user *user, char *error)
{
	int rc;

	if (user && geteuid() != user->uid) {
		rc = capng_change_id((int)user->uid, (int)user->gid,
				     CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
	} else {
		/* The bounding set can't be cut without CAP_SETPCAP; no_new_privs keeps it from being used. */
		rc = capng_apply(CAPNG_SELECT_CAPS);
		if (rc == 0 && capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
			rc = capng_apply(CAPNG_SELECT_BOUNDS);
		if (rc == 0)
			rc = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	}
	if (rc == 0)
		rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (rc == 0)
		return 0;
	snprintf(error, ERROR_SIZE, "can't become the emitter's user (uid %u): %s (%d)",
		 user ? (unsigned)user->uid : geteuid(), strerror(errno), rc);
	return -1;
}

int
confine_become(const struct confine_user *user, char *error)
{
	bool held[sizeof needed / sizeof *needed];

	if (capng_get_caps_process() != 0) {
		snprintf(error, ERROR_SIZE, "can't ask for the capabilities: %s", strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		held[i] = capng_have_capability(CAPNG_PERMITTED, needed[i]);
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (held[i])
			(void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, needed[i]);
	return become(user, error);
}

int
confine_strip(const struct confine_user *user, char *error)
{
	capng_clear(CAPNG_SELECT_ALL);
	return become(user, error);
}

/* ---- system calls ---- */

/* By what they are for. Names that an architecture does not have are passed over. There is no way to run a program, to listen, or to change another
   process, a mount, a module, a user or the clock. */
static const char *const calls[] = {
	/* files */
	"_llseek",
	"access",
	"chmod",
	"close",
	"close_range",
	"dup",
	"dup2",
	"dup3",
	"faccessat",
	"faccessat2",
	"fadvise64",
	"fadvise64_64",
	"fallocate",
	"fchmod",
	"fchmodat",
	"fcntl",
	"fcntl64",
	"fdatasync",
	"fgetxattr",
	"flistxattr",
	"flock",
	"fstat",
	"fstat64",
	"fstatat64",
	"fstatfs",
	"fstatfs64",
	"fsync",
	"ftruncate",
	"ftruncate64",
	"getcwd",
	"getdents",
	"getdents64",
	"getxattr",
	"inotify_add_watch",
	"inotify_init",
	"inotify_init1",
	"inotify_rm_watch",
	"lgetxattr",
	"link",
	"linkat",
	"listxattr",
	"llistxattr",
	"lseek",
	"lstat",
	"lstat64",
	"mkdir",
	"mkdirat",
	"name_to_handle_at",
	"newfstatat",
	"open",
	"openat",
	"openat2",
	"pipe",
	"pipe2",
	"pread64",
	"preadv",
	"preadv2",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"read",
	"readahead",
	"readlink",
	"readlinkat",
	"readv",
	"rename",
	"renameat",
	"renameat2",
	"rmdir",
	"sendfile",
	"sendfile64",
	"stat",
	"stat64",
	"statfs",
	"statfs64",
	"statx",
	"sync_file_range",
	"umask",
	"unlink",
	"unlinkat",
	"write",
	"writev",
	/* memory */
	"brk",
	"madvise",
	"membarrier",
	"mlock",
	"mlock2",
	"mremap",
	"munlock",
	"munmap",
	"msync",
	/* this process, its threads and its children */
	"arch_prctl",
	"exit",
	"exit_group",
	"fork",
	"futex",
	"futex_time64",
	"futex_waitv",
	"get_robust_list",
	"getcpu",
	"getpgid",
	"getpgrp",
	"getpid",
	"getppid",
	"getpriority",
	"getrandom",
	"getrlimit",
	"getrusage",
	"getsid",
	"gettid",
	"kill",
	"restart_syscall",
	"rseq",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigsuspend",
	"rt_sigtimedwait",
	"rt_sigtimedwait_time64",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"sched_getaffinity",
	"sched_getparam",
	"sched_getscheduler",
	"sched_yield",
	"set_robust_list",
	"set_tid_address",
	"setpgid",
	"setrlimit",
	"sigaltstack",
	"signalfd",
	"signalfd4",
	"sigreturn",
	"sysinfo",
	"tgkill",
	"times",
	"tkill",
	"ugetrlimit",
	"uname",
	"vfork",
	"wait4",
	"waitid",
	"waitpid",
	/* who it is */
	"capget",
	"getegid",
	"getegid32",
	"geteuid",
	"geteuid32",
	"getgid",
	"getgid32",
	"getgroups",
	"getgroups32",
	"getresgid",
	"getresgid32",
	"getresuid",
	"getresuid32",
	"getuid",
	"getuid32",
	/* time; to set it takes a capability that is given up */
	"adjtimex",
	"clock_adjtime",
	"clock_adjtime64",
	"clock_getres",
	"clock_getres_time64",
	"clock_gettime",
	"clock_gettime64",
	"clock_nanosleep",
	"clock_nanosleep_time64",
	"gettimeofday",
	"nanosleep",
	"time",
	"timerfd_create",
	"timerfd_gettime",
	"timerfd_settime",
	/* waiting */
	"_newselect",
	"epoll_create",
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"eventfd",
	"eventfd2",
	"poll",
	"ppoll",
	"ppoll_time64",
	"pselect6",
	"pselect6_time64",
	"select",
	/* the network, as a client; bind is for netlink */
	"bind",
	"connect",
	"getpeername",
	"getsockname",
	"getsockopt",
	"recv",
	"recvfrom",
	"recvmmsg",
	"recvmmsg_time64",
	"recvmsg",
	"send",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"setsockopt",
	"shutdown",
	"socketpair",
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
	"ptrace", /* a test's build looks for leaks in itself */
	"personality",
	"sched_setaffinity",
#endif
};

/* Those that depend on one of their arguments; a call may have several rows. */
static const struct {
	const char *name;
	struct scmp_arg_cmp when;
} limited[] = {
	{"socket", {0, SCMP_CMP_EQ, AF_UNIX, 0}},
	{"socket", {0, SCMP_CMP_EQ, AF_INET, 0}},
	{"socket", {0, SCMP_CMP_EQ, AF_INET6, 0}},
	{"socket", {0, SCMP_CMP_EQ, AF_NETLINK, 0}},
	{"clone", {0, SCMP_CMP_MASKED_EQ, NAMESPACES, 0}},
	/* never writable and executable at once */
	{"mmap", {2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, 0}},
	{"mmap", {2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_WRITE}},
	{"mmap", {2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_EXEC}},
	{"mmap2", {2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, 0}},
	{"mmap2", {2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_WRITE}},
	{"mmap2", {2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_EXEC}},
	{"mprotect", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
	{"mprotect", {2, SCMP_CMP_EQ, PROT_READ | PROT_EXEC, 0}},
	{"prlimit64", {0, SCMP_CMP_EQ, 0, 0}}, /* its own limits */
	/* a child may confine itself more */
	{"seccomp", {0, SCMP_CMP_EQ, 1 /* SECCOMP_SET_MODE_FILTER */, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_NAME, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_GET_NAME, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_PDEATHSIG, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_GET_DUMPABLE, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_DUMPABLE, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_CAPBSET_READ, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_SECCOMP, 0}}, /* a child that is allowed still less */
	{"prctl", {0, SCMP_CMP_EQ, 0x53564d41 /* PR_SET_VMA, which names memory */, 0}},
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_PTRACER, 0}},
#endif
};

static int
allow(scmp_filter_ctx filter, const char *name, unsigned n, const struct scmp_arg_cmp *when)
{
	int call = seccomp_syscall_resolve_name(name);
	int rc = call == __NR_SCMP_ERROR ? 0 : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, n, when);

	return rc == -EDOM ? 0 : rc;
}

/* All but TIOCSTI, which types for others. The kernel looks at the lower half of a request's number and the filter at both, so that it has to differ in a
   bit of the lower one. */
static int
allow_ioctl(scmp_filter_ctx filter)
{
	int rc = 0;

	for (uint64_t bit = 1; bit <= UINT32_MAX && rc == 0; bit <<= 1) {
		const struct scmp_arg_cmp differs = {1, SCMP_CMP_MASKED_EQ, bit, ~(uint64_t)TIOCSTI & bit};

		rc = allow(filter, "ioctl", 1, &differs);
	}
	return rc;
}

/* The whole filter, as the kernel takes it, into a file. Returns 0 or a negative errno. */
static int
write_filter(int fd)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = filter ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) : -ENOMEM; /* a tree, not a list */

	for (size_t i = 0; i < sizeof calls / sizeof *calls && rc == 0; i++)
		rc = allow(filter, calls[i], 0, NULL);
	for (size_t i = 0; i < sizeof limited / sizeof *limited && rc == 0; i++)
		rc = allow(filter, limited[i].name, 1, &limited[i].when);
	if (rc == 0)
		rc = allow_ioctl(filter);
	/* Its flags can't be seen from here; glibc then takes clone. */
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (rc == 0)
		rc = seccomp_export_bpf(filter, fd);
	seccomp_release(filter);
	return rc;
}

/* Making the filter takes memory that would stay with this process for its life, so that a child makes it. */
static ssize_t
make_filter(struct sock_filter program[FILTER_MAX])
{
	int fd = memfd_create("filter", MFD_CLOEXEC), status = -1;
	pid_t pid = fd < 0 ? -1 : fork();
	ssize_t len = -1;

	if (pid == 0)
		_exit(write_filter(fd) == 0 ? 0 : 1);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		len = pread(fd, program, FILTER_MAX * sizeof *program, 0);
	if (fd >= 0)
		close(fd);
	return len > 0 && (size_t)len < FILTER_MAX * sizeof *program ? len / (ssize_t)sizeof *program : -1;
}

int
confine_calls(char *error)
{
	struct sock_filter program[FILTER_MAX];
	ssize_t n = make_filter(program);
	struct sock_fprog all = {(unsigned short)n, program};

	if (n > 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &all) == 0)
		return 0;
	snprintf(error, ERROR_SIZE, "system calls can't be confined: %s",
		 n > 0 ? strerror(errno) : "no filter could be made");
	return -1;
}
