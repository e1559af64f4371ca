"""Giving a volume to a group: ``fsGroup``. After k8s.io/kubernetes' ``pkg/volume/volume_linux.go``."""

from __future__ import annotations

import contextlib
import os
import stat

_FILES = 0o660
_FOLDERS = 0o770 | stat.S_ISGID


def set_ownership(path: str, group: int, policy: str | None) -> None:
    """Make everything below *path* the group's to read and write; ``OnRootMismatch``: only if *path* is not.

    Links are left as they are, and nothing is done through one. OSError.
    """
    root = os.stat(path)
    if policy == "OnRootMismatch" and root.st_gid == group and root.st_mode & _FOLDERS == _FOLDERS:
        return
    # From the leaves up: if this is broken off, the root still tells that it is to be done again.
    for _, folders, files, parent in os.fwalk(path, topdown=False):
        for name in (*folders, *files):
            # Somebody who has the volume, too, may be faster.
            with contextlib.suppress(FileNotFoundError):
                _give(name, group, parent)
    _give(path, group, None)


def _give(name: str, group: int, parent: int | None) -> None:
    os.chown(name, -1, group, dir_fd=parent, follow_symlinks=False)
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISLNK(mode):
            added = _FOLDERS if stat.S_ISDIR(mode) else _FILES
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | added)
    finally:
        os.close(fd)
