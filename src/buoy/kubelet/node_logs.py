"""The node's own log folder, to read: what the kubelet serves below ``/logs/``."""

from __future__ import annotations

import html
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote


@contextmanager
def opened(root: str, path: str) -> Iterator[int]:
    """A descriptor of the file or folder at *path*, relative to *root*.

    FileNotFoundError if there is none, if it is neither, or if a symbolic link leads out of *root*: Pods can
    make such links where they write logs.
    """
    place = os.open(os.path.join(root, *filter(None, path.split("/"))), os.O_PATH)
    try:
        mode = os.fstat(place).st_mode
        real = os.readlink(f"/proc/self/fd/{place}")
        inside = os.path.commonpath((real, os.path.realpath(root))) == os.path.realpath(root)
        if not inside or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FileNotFoundError(path)
        descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY)
    finally:
        os.close(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def listing(descriptor: int) -> bytes:
    """A page of links to what is in a folder, as Go's http.FileServer makes it."""
    lines = ["<!doctype html>", '<meta name="viewport" content="width=device-width">', "<pre>"]
    for entry in sorted(os.scandir(descriptor), key=lambda entry: entry.name):
        name = entry.name + ("/" if entry.is_dir() else "")
        lines.append(f'<a href="{quote(name)}">{html.escape(name)}</a>')
    return "\n".join([*lines, "</pre>", ""]).encode(errors="replace")
