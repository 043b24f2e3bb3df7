package oci

import (
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The syscalls that every container may use, by what they are for. What is not
// in this file answers EPERM. Names that a machine's architecture or libseccomp
// does not know are passed over.
var allowedSyscalls = []string{
	// files and directories
	`access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3
	faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown
	fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
	ftruncate ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown lchown32 link linkat
	lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2 readlink
	readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat
	sync sync_file_range syncfs truncate truncate64 umask unlink unlinkat utime utimensat
	utimensat_time64 utimes name_to_handle_at cachestat`,
	// attributes
	`fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat
	llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat`,
	// reading and writing
	`pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv write writev sendfile
	sendfile64 splice tee vmsplice pipe pipe2 io_cancel io_destroy io_getevents io_pgetevents
	io_pgetevents_time64 io_setup io_submit`,
	// waiting for events
	`epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
	epoll_wait_old eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select
	_newselect inotify_add_watch inotify_init inotify_init1 inotify_rm_watch fanotify_mark
	signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
	timerfd_settime64`,
	// network
	`accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
	recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair`,
	// memory
	`brk madvise memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
	msync munlock munlockall munmap membarrier pkey_alloc pkey_free pkey_mprotect remap_file_pages
	process_mrelease mseal map_shadow_stack`,
	// processes and threads
	`execve execveat exit exit_group fork vfork wait4 waitid waitpid getpid getppid gettid getpgid
	getpgrp getsid setpgid setsid set_tid_address set_thread_area get_thread_area set_robust_list
	get_robust_list futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake kill tgkill
	tkill pidfd_open pidfd_send_signal prctl rseq ptrace process_vm_readv process_vm_writev
	capget capset seccomp landlock_add_rule landlock_create_ruleset landlock_restrict_self
	restart_syscall`,
	// signals
	`alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
	rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack
	signal sigpending sigprocmask sigreturn sigsuspend`,
	// users and groups
	`getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
	getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32
	setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid
	setresuid32 setreuid setreuid32 setuid setuid32`,
	// scheduling and limits
	`getcpu getitimer getpriority getrlimit getrusage ioprio_get ioprio_set nice prlimit64
	sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
	sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
	sched_setattr sched_setparam sched_setscheduler sched_yield setitimer setpriority setrlimit
	times ugetrlimit`,
	// clocks
	`adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
	clock_gettime64 clock_nanosleep clock_nanosleep_time64 gettimeofday nanosleep time timer_create
	timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64`,
	// System V and POSIX message passing
	`ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
	mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
	semtimedop_time64 shmat shmctl shmdt shmget`,
	// about the system
	`getrandom sysinfo uname`,
}

// Syscalls of one architecture only.
var archSyscalls = map[string]string{
	"amd64": `arch_prctl modify_ldt`,
	"arm64": `arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls`,
}

// What a capability opens besides.
var capabilitySyscalls = map[string]string{
	"CAP_DAC_READ_SEARCH": `open_by_handle_at`,
	"CAP_SYS_ADMIN": `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount
		lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr
		move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns
		statmount syslog umount umount2 unshare`,
	"CAP_SYS_BOOT":       `reboot`,
	"CAP_SYS_CHROOT":     `chroot`,
	"CAP_SYS_MODULE":     `delete_module finit_module init_module`,
	"CAP_SYS_PACCT":      `acct`,
	"CAP_SYS_PTRACE":     `kcmp pidfd_getfd process_madvise`,
	"CAP_SYS_RAWIO":      `ioperm iopl`,
	"CAP_SYS_TIME":       `clock_settime clock_settime64 settimeofday stime`,
	"CAP_SYS_TTY_CONFIG": `vhangup`,
	"CAP_SYS_NICE":       `get_mempolicy mbind set_mempolicy set_mempolicy_home_node`,
	"CAP_SYSLOG":         `syslog`,
	"CAP_BPF":            `bpf`,
	"CAP_PERFMON":        `perf_event_open`,
}

const (
	// Every CLONE_NEW* flag of clone(2) but CLONE_NEWTIME, which it cannot take.
	cloneNamespaceFlags = syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP | syscall.CLONE_NEWUTS |
		syscall.CLONE_NEWIPC | syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET

	// Sockets to the hypervisor know no network namespace.
	afVsock = 40
)

// Personalities that change nothing dangerous: Linux and UNAME26, each also
// without address randomisation off (PER_LINUX32), and the query.
var personalities = []uint64{0x0, 0x0008, 0x20000, 0x20008, 0xffffffff}

// seccompProfile is the allow-list for a container with these capabilities.
func seccompProfile(arch string, compat bool, capabilities []string) *specs.LinuxSeccomp {
	allow := map[string]bool{}
	add := func(names string) {
		for name := range strings.FieldsSeq(names) {
			allow[name] = true
		}
	}
	for _, names := range allowedSyscalls {
		add(names)
	}
	add(archSyscalls[arch])
	for _, capability := range capabilities {
		add(capabilitySyscalls[capability])
	}
	names := make([]string, 0, len(allow))
	for name := range allow {
		names = append(names, name)
	}
	slices.Sort(names)

	denied := uint(syscall.EPERM)
	profile := &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &denied,
		Architectures:   architectures(arch, compat),
		Syscalls: []specs.LinuxSyscall{
			{Names: names, Action: specs.ActAllow},
			allowIf("socket", specs.LinuxSeccompArg{Index: 0, Value: afVsock, Op: specs.OpNotEqual}),
		},
	}
	for _, p := range personalities {
		profile.Syscalls = append(profile.Syscalls,
			allowIf("personality", specs.LinuxSeccompArg{Index: 0, Value: p, Op: specs.OpEqualTo}))
	}
	if !slices.Contains(capabilities, "CAP_SYS_ADMIN") {
		missing := uint(syscall.ENOSYS)
		profile.Syscalls = append(profile.Syscalls,
			allowIf("clone", specs.LinuxSeccompArg{Index: 0, Value: cloneNamespaceFlags, ValueTwo: 0, Op: specs.OpMaskedEqual}),
			// Its flags are in memory, out of a filter's sight: let libc fall back to clone.
			specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &missing})
	}
	return profile
}

func allowIf(name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: args}
}

// architectures lists a machine's own and, where an image has programs for it,
// the 32-bit one that it also runs. The second is not always there because it
// makes the filter, which is compiled for every container, take 10 ms instead of
// 3; a program of an architecture that is not there is killed by SIGSYS.
func architectures(arch string, compat bool) []specs.Arch {
	var all []specs.Arch
	switch arch {
	case "amd64":
		all = []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	case "arm64":
		all = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	default:
		return nil
	}
	if !compat {
		return all[:1]
	}
	return all
}
