"""Files that change all at once under a reader's eyes, as ConfigMap and Secret volumes promise.

The files live in a directory of their own, which ``..data`` points to; what the user sees are links through
``..data``. An update makes a new directory and renames ``..data``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

_DATA = "..data"
_NEW_DATA = "..data_tmp"


class File(NamedTuple):
    """*owner* None leaves it to root."""

    content: bytes
    mode: int
    owner: int | None = None


def write(directory: str, files: Mapping[str, File], group: int | None = None) -> bool:
    """Have exactly *files* (by relative path) in *directory*; whether anything changed. OSError on failure.

    With *group*, it owns the files and can read them.
    """
    data = os.path.join(directory, _DATA)
    current = os.readlink(data) if os.path.islink(data) else ""
    if current and _holds(os.path.join(directory, current), files, group):
        _link(directory, files)
        return False
    fresh = tempfile.mkdtemp(prefix="..", dir=directory)
    os.chmod(fresh, 0o755)  # noqa: S103
    _own(fresh, 0o2750 if group is not None else 0, group)
    for path, file in files.items():
        target = os.path.join(fresh, path)
        parent = fresh
        for part in path.split("/")[:-1]:
            parent = os.path.join(parent, part)
            if not os.path.isdir(parent):
                os.mkdir(parent)
                os.chmod(parent, 0o755)  # noqa: S103
                _own(parent, 0o2750 if group is not None else 0, group)
        with open(target, "wb") as out:
            out.write(file.content)
        os.chmod(target, _mode(file, group))
        if file.owner is not None or group is not None:
            os.chown(target, -1 if file.owner is None else file.owner, -1 if group is None else group)
    staged = os.path.join(directory, _NEW_DATA)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)
    os.symlink(os.path.basename(fresh), staged)
    os.rename(staged, data)
    _link(directory, files)
    for entry in os.scandir(directory):
        stale = entry.name.startswith("..") and entry.is_dir(follow_symlinks=False)
        if stale and entry.name != os.path.basename(fresh):
            shutil.rmtree(entry.path)
    return True


def _mode(file: File, group: int | None) -> int:
    return file.mode | (0o440 if group is not None else 0)


def _own(path: str, bits: int, group: int | None) -> None:
    if group is not None:
        os.chown(path, -1, group)
        os.chmod(path, os.stat(path).st_mode & 0o7777 | bits)


def _link(directory: str, files: Mapping[str, File]) -> None:
    visible = {path.split("/")[0] for path in files}
    for name in visible:
        link = os.path.join(directory, name)
        if not os.path.islink(link):
            os.symlink(os.path.join(_DATA, name), link)
    for entry in os.scandir(directory):
        if not entry.name.startswith("..") and entry.is_symlink() and entry.name not in visible:
            os.unlink(entry.path)


def _holds(directory: str, files: Mapping[str, File], group: int | None) -> bool:
    present = {
        os.path.relpath(os.path.join(parent, name), directory)
        for parent, _, names in os.walk(directory)
        for name in names
    }
    if present != set(files):
        return False
    for path, file in files.items():
        target = os.path.join(directory, path)
        if os.stat(target).st_mode & 0o7777 != _mode(file, group):
            return False
        with open(target, "rb") as content:
            if content.read() != file.content:
                return False
    return True
