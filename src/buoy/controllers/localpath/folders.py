"""The folders themselves. They block: to be called in a thread."""

from __future__ import annotations

import contextlib
import os
import shutil


class NoSuchNode(OSError):
    """There is no folder of that node."""


class Folders:
    """Below *root* is a folder of each node, whose ``volumes`` that node sees."""

    def __init__(self, root: str) -> None:
        self._root = root

    def _volumes(self, node: str) -> str:
        return os.path.join(self._root, node, "volumes")

    def make(self, node: str, name: str) -> None:
        """For whoever runs in the container, as others make it. Raises NoSuchNode and OSError."""
        if not os.path.isdir(os.path.join(self._root, node)):
            raise NoSuchNode(f"there is no node {node!r}")
        parent = self._volumes(node)
        with contextlib.suppress(FileExistsError):
            os.mkdir(parent, 0o700)
        path = os.path.join(parent, name)
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        os.chmod(path, 0o777)  # noqa: S103

    def remove(self, node: str, name: str) -> None:
        """With all that is in it; links are not followed. OSError."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.join(self._volumes(node), name))
