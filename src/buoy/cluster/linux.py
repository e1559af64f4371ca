"""The few system calls that the standard library lacks."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SHARED = 0x100000

MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, f"mount {kind or source} on {target}")


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def close_all_but(*kept: int) -> None:
    """Close every file descriptor except *kept* and standard input, output and error."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def set_name(name: str) -> None:
    """The process' name as ``ps -o comm`` shows it (15 bytes)."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl")


def die_with_parent(signal: int) -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def sethostname(name: str) -> None:
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")


def one_malloc_arena() -> None:
    """Have all threads of this process and its forks allocate from one heap (mallopt(3), M_ARENA_MAX)."""
    mallopt = getattr(_libc, "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(-8, 1)


class _HeapUse(ctypes.Structure):
    """struct mallinfo2 of mallinfo(3); *keepcost* is what is free at the heap's end, in bytes."""

    _fields_ = (("_others", ctypes.c_size_t * 9), ("keepcost", ctypes.c_size_t))


def fill_heap() -> None:
    """Take every free piece inside malloc's heap, for ever.

    What a fork of this process then allocates lies side by side at the heap's end. It would have gone into
    the gaps between what is shared, and each gap would have cost a copy of its page.
    """
    mallinfo2 = getattr(_libc, "mallinfo2", None)  # glibc 2.33 or later
    if mallinfo2 is None:
        return
    mallinfo2.restype = _HeapUse
    malloc, free, sbrk = _libc.malloc, _libc.free, _libc.sbrk
    malloc.restype = sbrk.restype = ctypes.c_size_t
    malloc.argtypes = free.argtypes = (ctypes.c_size_t,)
    sbrk.argtypes = (ctypes.c_ssize_t,)
    end = sbrk(0) - mallinfo2().keepcost  # above are only the pieces that no gap was large enough for
    for size in (*range(1 << 16, 1 << 10, -(1 << 10)), *range(1 << 10, 0, -16)):
        while (taken := malloc(size)) and taken < end:
            pass
        free(taken)
