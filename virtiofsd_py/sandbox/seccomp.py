# SPDX-License-Identifier: BSD-3-Clause
"""Which system calls the daemon may make once it serves, through libseccomp.

The table below is what the C core, CPython and the C library call from the moment the filter is in
force. A part of the core that needs another call adds its name here. Names that this libseccomp or
machine does not know are left out: nobody can call them by that name either.

Spec: seccomp(2), seccomp_rule_add(3).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from virtiofsd_py._sandbox import ffi, lib
from virtiofsd_py.errors import StartError
from virtiofsd_py.options import Seccomp

ALLOWED: Final = {
    "files of the share": """
        open_by_handle_at name_to_handle_at openat openat2 close close_range
        read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2
        lseek _llseek getdents64 copy_file_range splice tee sendfile
        statx fstat fstat64 newfstatat fstatat64 statfs fstatfs statfs64 fstatfs64
        readlinkat mkdirat mknodat unlinkat symlinkat linkat renameat renameat2
        truncate truncate64 ftruncate ftruncate64 fallocate fsync fdatasync sync_file_range syncfs
        utimensat utimensat_time64 fchmod fchmodat fchmodat2 fchown fchownat
        faccessat faccessat2 flock dup dup3 fchdir umask
        getxattr setxattr listxattr removexattr lgetxattr lsetxattr llistxattr lremovexattr
        fgetxattr fsetxattr flistxattr fremovexattr
        getxattrat setxattrat listxattrat removexattrat file_getattr file_setattr
    """,
    "our own files, where no other root hides them": "open stat lstat unlink rmdir readlink getcwd",
    "credentials of one request": """
        setresuid setresuid32 setresgid setresgid32 capget capset
        setgroups setgroups32 getgroups getgroups32
        getuid geteuid getgid getegid getuid32 geteuid32 getgid32 getegid32
    """,
    "events": """
        fanotify_init fanotify_mark statmount inotify_init1 inotify_add_watch inotify_rm_watch
        epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
        poll ppoll ppoll_time64 select pselect6 pipe2
        timerfd_create timerfd_settime timerfd_gettime
    """,
    "the front-end": """
        accept accept4 recvmsg sendmsg recvfrom recv send shutdown getsockopt setsockopt
        getsockname getpeername memfd_create
    """,
    "memory": "brk mmap mmap2 munmap mremap mprotect madvise mincore membarrier",
    "threads": """
        futex futex_time64 set_robust_list rseq set_tid_address
        gettid getpid getppid sched_yield sched_getaffinity getcpu restart_syscall
        exit exit_group
    """,
    "signals and time": """
        rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending sigaltstack sigreturn
        clock_gettime clock_gettime64 clock_getres clock_nanosleep clock_nanosleep_time64 nanosleep
        gettimeofday time getitimer
    """,
    "questions of the C library": """
        getrandom getrusage uname sysinfo getrlimit ugetrlimit times
    """,
}

NUMBERS: Final = {"statmount": lib.SYS_statmount}
"""Those of names that are newer than the libseccomp in use."""

REFUSED: Final = {
    # syslog(3) connects anew when its daemon was restarted; in here it cannot.
    errno.EPERM: "socket connect",
    # Its flags are out of a filter's reach; the C library falls back to clone.
    errno.ENOSYS: "clone3",
}
"""Calls that fail without further consequences."""

THREAD_FLAGS: Final = 0x007D_0F00
"""What C libraries make threads with: nothing of a namespace, a parent, or a tracer."""

OWN_ONLY: Final = "prlimit64 get_robust_list sched_setaffinity"
"""Calls whose first argument is a process or thread: only 0, the caller."""

FCNTLS: Final = """
    F_DUPFD F_DUPFD_CLOEXEC F_GETFD F_SETFD F_GETFL F_SETFL
    F_GETLK F_SETLK F_SETLKW F_GETLK64 F_SETLK64 F_SETLKW64 F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW
    F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS
"""
"""Those by which no process gets a signal."""

PRCTLS: Final = "PR_SET_NAME PR_GET_NAME PR_CAPBSET_READ PR_CAPBSET_DROP PR_SET_VMA"

IOCTLS: Final = """
    TCGETS FIONREAD FIONBIO FIONCLEX FIOCLEX
    FS_IOC_GETFLAGS FS_IOC_SETFLAGS FS_IOC_GETVERSION FS_IOC_FSGETXATTR FS_IOC_FSSETXATTR
    FICLONE FICLONERANGE
"""
"""TCGETS is isatty(3)."""


@dataclass(frozen=True, slots=True)
class _Test:
    """A test of one argument; MASKED_EQ: ``argument & a == b``."""

    argument: int
    how: int  # enum scmp_compare
    a: int
    b: int = 0


# Of an int the kernel looks at these bits, whatever the caller's C type was.
_INT: Final = 0xFFFF_FFFF

_ACTIONS: Final = {
    Seccomp.KILL: lib.SCMP_ACT_KILL_PROCESS,  # not the thread
    Seccomp.LOG: lib.SCMP_ACT_LOG,
    Seccomp.TRAP: lib.SCMP_ACT_TRAP,
}


def load() -> Any:  # noqa: ANN401 - cffi's libraries have no type
    """Return libseccomp. Importing this module has loaded it, while it was within reach."""
    return lib


def confine(library: Any, action: Seccomp) -> None:  # noqa: ANN401 - as `load`
    """Put the filter in force for every thread there is and will be; sets no_new_privs.

    Args:
        library: what `load` returned.
        action: not NONE.

    Raises:
        StartError: the kernel refuses.
    """
    context = library.seccomp_init(_ACTIONS[action])
    if not context:
        raise StartError("seccomp: the filter cannot be made")
    try:
        library.seccomp_attr_set(context, lib.SCMP_FLTATR_CTL_TSYNC, 1)
        # Another machine's system calls are never ours: not the thread alone.
        library.seccomp_attr_set(context, lib.SCMP_FLTATR_ACT_BADARCH, _ACTIONS[Seccomp.KILL])
        # A binary tree instead of a list; older libraries do not know it.
        library.seccomp_attr_set(context, lib.SCMP_FLTATR_CTL_OPTIMIZE, 2)
        _add_rules(_Filter(library, context))
        result = library.seccomp_load(context)
        if result != 0:
            raise StartError(f"seccomp: the filter cannot be loaded: {os.strerror(-result)}")
    finally:
        library.seccomp_release(context)


class _Filter:
    """A filter in the making."""

    def __init__(self, library: Any, context: Any) -> None:  # noqa: ANN401 - as `load`
        self._library = library
        self._context = context

    def add(self, name: str, action: int = lib.SCMP_ACT_ALLOW, tests: Sequence[_Test] = ()) -> None:
        """Add a rule; all `tests` must hold. Rules of one call are alternatives."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            number = NUMBERS.get(name, -1)
        if number == -1:
            return
        raw = ffi.new("struct scmp_arg_cmp[]", [(t.argument, t.how, t.a, t.b) for t in tests])
        result = self._library.seccomp_rule_add_array(
            self._context, action, number, len(tests), raw
        )
        if result not in (0, -errno.EDOM):  # EDOM: not on this machine
            raise StartError(f"seccomp: no rule for {name}: {os.strerror(-result)}")


def _add_rules(rules: _Filter) -> None:
    for names in ALLOWED.values():
        for name in names.split():
            rules.add(name)
    for number, names in REFUSED.items():
        for name in names.split():
            rules.add(name, lib.VFSD_SCMP_ACT_ERRNO | number)
    # Threads, but no processes and no namespaces.
    flags = lib.VFSD_CLONE_FLAGS_ARGUMENT
    others = _INT & ~THREAD_FLAGS | lib.CLONE_THREAD
    rules.add("clone", tests=[_Test(flags, lib.SCMP_CMP_MASKED_EQ, others, lib.CLONE_THREAD)])
    rules.add("unshare", tests=[_Test(0, lib.SCMP_CMP_EQ, lib.CLONE_FS)])
    # Other processes are left alone, by their numbers and through what is left of other sockets.
    rules.add("tgkill", tests=[_Test(0, lib.SCMP_CMP_MASKED_EQ, _INT, os.getpid())])
    for name in OWN_ONLY.split():
        rules.add(name, tests=[_Test(0, lib.SCMP_CMP_MASKED_EQ, _INT, 0)])
    rules.add("sendto", tests=[_Test(4, lib.SCMP_CMP_EQ, 0)])
    rules.add("sendto", lib.VFSD_SCMP_ACT_ERRNO | errno.EPERM, [_Test(4, lib.SCMP_CMP_NE, 0)])
    for command in FCNTLS.split():
        for name in ("fcntl", "fcntl64"):
            rules.add(name, tests=[_Test(1, lib.SCMP_CMP_MASKED_EQ, _INT, getattr(lib, command))])
    for request in PRCTLS.split():
        rules.add("prctl", tests=[_Test(0, lib.SCMP_CMP_EQ, getattr(lib, request))])
    is_set = (lib.PR_CAP_AMBIENT, lib.PR_CAP_AMBIENT_IS_SET)
    rules.add("prctl", tests=[_Test(i, lib.SCMP_CMP_EQ, word) for i, word in enumerate(is_set)])
    for request in IOCTLS.split():
        rules.add("ioctl", tests=[_Test(1, lib.SCMP_CMP_MASKED_EQ, _INT, getattr(lib, request))])
