# SPDX-License-Identifier: BSD-3-Clause
"""Which system calls the daemon may make once it serves, through libseccomp.

The table below is what the C core, CPython and the C library call from the moment the filter is in
force. A room that needs another call adds its name here. Names that this libseccomp or machine does
not know are left out: nobody can call them by that name either.

Spec: seccomp(2), seccomp_rule_add(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from virtiofsd_py.errors import StartError
from virtiofsd_py.options import Seccomp
from virtiofsd_py.sandbox import libc

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

NUMBERS: Final = {"statmount": libc.SYS_STATMOUNT}
"""Those of names that are newer than the libseccomp in use."""

REFUSED: Final = {
    # syslog(3) connects anew when its daemon was restarted; in here it cannot.
    errno.EPERM: "socket connect",
    # Its flags are out of a filter's reach; the C library falls back to clone.
    errno.ENOSYS: "clone3",
}
"""Calls that fail without further consequences."""

PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_IS_SET: Final = 1

CLONE_THREAD: Final = 0x0001_0000
CLONE_FS: Final = 0x0000_0200
THREAD_FLAGS: Final = 0x007D_0F00
"""What C libraries make threads with: nothing of a namespace, a parent, or a tracer."""

OWN_ONLY: Final = "prlimit64 get_robust_list sched_setaffinity"
"""Calls whose first argument is a process or thread: only 0, the caller."""

FCNTLS: Final = {
    "F_DUPFD": 0,
    "F_GETFD": 1,
    "F_SETFD": 2,
    "F_GETFL": 3,
    "F_SETFL": 4,
    "F_GETLK": 5,
    "F_SETLK": 6,
    "F_SETLKW": 7,
    "F_GETLK64": 12,  # 32-bit machines
    "F_SETLK64": 13,
    "F_SETLKW64": 14,
    "F_OFD_GETLK": 36,
    "F_OFD_SETLK": 37,
    "F_OFD_SETLKW": 38,
    "F_DUPFD_CLOEXEC": 1030,
    "F_SETPIPE_SZ": 1031,
    "F_GETPIPE_SZ": 1032,
    "F_ADD_SEALS": 1033,
    "F_GET_SEALS": 1034,
}
"""Those by which no process gets a signal."""

PRCTLS: Final = {
    "PR_SET_NAME": 15,
    "PR_GET_NAME": 16,
    "PR_CAPBSET_READ": 23,
    "PR_CAPBSET_DROP": 24,
    "PR_SET_VMA": 0x53564D41,
}

IOCTLS: Final = {
    "TCGETS": 0x5401,  # isatty(3)
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
    "FS_IOC_GETFLAGS": 0x8008_6601,
    "FS_IOC_SETFLAGS": 0x4008_6602,
    "FS_IOC_GETVERSION": 0x8008_7601,
    "FS_IOC_FSGETXATTR": 0x801C_581F,
    "FS_IOC_FSSETXATTR": 0x401C_5820,
    "FICLONE": 0x4004_9409,
    "FICLONERANGE": 0x4020_940D,
}


class _Compare(IntEnum):
    """enum scmp_compare."""

    NE = 1
    EQ = 4
    MASKED_EQ = 7


@dataclass(frozen=True, slots=True)
class _Test:
    """A test of one argument; MASKED_EQ: ``argument & a == b``."""

    argument: int
    how: _Compare
    a: int
    b: int = 0


class _ScmpArgCmp(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


# Of an int the kernel looks at these bits, whatever the caller's C type was.
_INT: Final = 0xFFFF_FFFF

# <seccomp.h>
_ACT_ALLOW: Final = 0x7FFF_0000
_ACT_ERRNO: Final = 0x0005_0000
_ACTIONS: Final = {
    Seccomp.KILL: 0x8000_0000,  # the process, not the thread
    Seccomp.LOG: 0x7FFC_0000,
    Seccomp.TRAP: 0x0003_0000,
}
_ATTR_BADARCH: Final = 2
_ATTR_TSYNC: Final = 4
_ATTR_OPTIMIZE: Final = 8


def load() -> ctypes.CDLL:
    """Load libseccomp, which is out of reach once the root changes.

    Raises:
        StartError: it is missing.
    """
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise StartError(f"--seccomp: libseccomp cannot be loaded: {error}") from None
    context = ctypes.c_void_p
    lib.seccomp_init.argtypes = (ctypes.c_uint32,)
    lib.seccomp_init.restype = context
    lib.seccomp_release.argtypes = (context,)
    lib.seccomp_release.restype = None
    lib.seccomp_load.argtypes = (context,)
    lib.seccomp_attr_set.argtypes = (context, ctypes.c_int, ctypes.c_uint32)
    lib.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    lib.seccomp_rule_add_array.argtypes = (
        context,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_ScmpArgCmp),
    )
    return lib


def confine(lib: ctypes.CDLL, action: Seccomp) -> None:
    """Put the filter in force for every thread there is and will be; sets no_new_privs.

    Args:
        lib: what `load` returned.
        action: not NONE.

    Raises:
        StartError: the kernel refuses.
    """
    context = lib.seccomp_init(_ACTIONS[action])
    if not context:
        raise StartError("seccomp: the filter cannot be made")
    try:
        lib.seccomp_attr_set(context, _ATTR_TSYNC, 1)
        # Another machine's system calls are never ours: not the thread alone.
        lib.seccomp_attr_set(context, _ATTR_BADARCH, _ACTIONS[Seccomp.KILL])
        # A binary tree instead of a list; older libraries do not know it.
        lib.seccomp_attr_set(context, _ATTR_OPTIMIZE, 2)
        _add_rules(_Filter(lib, context))
        result = lib.seccomp_load(context)
        if result != 0:
            raise StartError(f"seccomp: the filter cannot be loaded: {os.strerror(-result)}")
    finally:
        lib.seccomp_release(context)


class _Filter:
    """A filter in the making."""

    def __init__(self, lib: ctypes.CDLL, context: int) -> None:
        self._lib = lib
        self._context = context

    def add(self, name: str, action: int = _ACT_ALLOW, tests: Sequence[_Test] = ()) -> None:
        """Add a rule; all `tests` must hold. Rules of one call are alternatives."""
        number = self._lib.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            number = NUMBERS.get(name, -1)
        if number == -1:
            return
        raw = (_ScmpArgCmp * len(tests))(*(_ScmpArgCmp(t.argument, t.how, t.a, t.b) for t in tests))
        result = self._lib.seccomp_rule_add_array(self._context, action, number, len(tests), raw)
        if result not in (0, -errno.EDOM):  # EDOM: not on this machine
            raise StartError(f"seccomp: no rule for {name}: {os.strerror(-result)}")


def _add_rules(rules: _Filter) -> None:
    for names in ALLOWED.values():
        for name in names.split():
            rules.add(name)
    for number, names in REFUSED.items():
        for name in names.split():
            rules.add(name, _ACT_ERRNO | number)
    # Threads, but no processes and no namespaces.
    flags = 1 if os.uname().machine == "s390x" else 0
    others = _INT & ~THREAD_FLAGS | CLONE_THREAD
    rules.add("clone", tests=[_Test(flags, _Compare.MASKED_EQ, others, CLONE_THREAD)])
    rules.add("unshare", tests=[_Test(0, _Compare.EQ, CLONE_FS)])
    # Other processes are left alone, by their numbers and through what is left of other sockets.
    rules.add("tgkill", tests=[_Test(0, _Compare.MASKED_EQ, _INT, os.getpid())])
    for name in OWN_ONLY.split():
        rules.add(name, tests=[_Test(0, _Compare.MASKED_EQ, _INT, 0)])
    rules.add("sendto", tests=[_Test(4, _Compare.EQ, 0)])
    rules.add("sendto", _ACT_ERRNO | errno.EPERM, [_Test(4, _Compare.NE, 0)])
    for command in FCNTLS.values():
        for name in ("fcntl", "fcntl64"):
            rules.add(name, tests=[_Test(1, _Compare.MASKED_EQ, _INT, command)])
    for request in PRCTLS.values():
        rules.add("prctl", tests=[_Test(0, _Compare.EQ, request)])
    is_set = [_Test(0, _Compare.EQ, PR_CAP_AMBIENT), _Test(1, _Compare.EQ, PR_CAP_AMBIENT_IS_SET)]
    rules.add("prctl", tests=is_set)
    for request in IOCTLS.values():
        rules.add("ioctl", tests=[_Test(1, _Compare.MASKED_EQ, _INT, request)])
