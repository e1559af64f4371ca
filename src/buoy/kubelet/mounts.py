"""Mounting and unmounting (mount(2)), and paths that cannot lead out of where they should stay."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat

_BIND = 4096
_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)


def mount_tmpfs(target: str, options: str) -> None:
    """A tmpfs at *target*, with *options* such as ``size=4096,mode=0777``."""
    _check(_libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", ctypes.c_ulong(0), options.encode()), target)


def bind(source: str, target: str) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(_BIND), None), target)


def unmount(target: str) -> None:
    """Unmount *target*, at once for those who look, later for those who still use it."""
    if _libc.umount2(os.fsencode(target), 0) == 0:
        return
    if ctypes.get_errno() != errno.EBUSY:
        _check(-1, target)
    _check(_libc.umount2(os.fsencode(target), _DETACH), target)


def mounts_below(directory: str) -> list[str]:
    """Everything mounted at or below *directory*, the deepest and latest first."""
    prefix = directory.rstrip("/") + "/"
    found = []
    with open("/proc/self/mountinfo", errors="surrogateescape") as table:
        for line in table:
            target = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ", 5)[4])
            if target == directory or target.startswith(prefix):
                found.append(target)
    return found[::-1]


def remove_tree(directory: str) -> None:
    """Unmount everything below *directory* and remove it. Never removes what is still mounted. OSError."""
    for target in mounts_below(directory):
        unmount(target)
    left = mounts_below(directory)
    if left:
        raise OSError(errno.EBUSY, "still mounted", left[0])
    _remove(directory)


def _remove(directory: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(directory)


def open_beneath(root: str, path: str, missing: int | None = None) -> int:
    """A descriptor (O_PATH) of *path* below *root*, links resolved.

    With *missing*, folders that are not there are made, of that mode. OSError if it leads out of *root*.
    """
    root = os.path.realpath(root)
    resolved = os.path.realpath(os.path.join(root, path))
    if resolved != root and not resolved.startswith(root.rstrip("/") + "/"):
        raise OSError(errno.EXDEV, "leads out of the volume", path)
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # Whoever writes in the volume could put a link in the way now: no component may be one any more.
    for part in os.path.relpath(resolved, root).split("/"):
        if part == ".":
            continue
        try:
            following = _open_part(part, fd, missing)
        finally:
            os.close(fd)
        fd = following
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ELOOP, "a link is in the way", path)
    return fd


def _open_part(part: str, parent: int, missing: int | None) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=parent)
    except FileNotFoundError:
        if missing is None:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, dir_fd=parent)
    fd = os.open(part, flags, dir_fd=parent)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.chmod(f"/proc/self/fd/{fd}", missing)
    return fd


def bind_beneath(root: str, path: str, target: str, mode: int) -> None:
    """Bind what *path* below *root* is, made as a directory of *mode* if missing, to *target*."""
    fd = open_beneath(root, path, mode)
    try:
        source = f"/proc/self/fd/{fd}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.ismount(target) or target in mounts_below(target):
            unmount(target)
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        bind(source, target)
    finally:
        os.close(fd)
