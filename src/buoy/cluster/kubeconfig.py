"""The user's kubeconfig: a context is merged in at the start and taken out at the end, the rest untouched."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .pki import write_secret

Document = dict[str, Any]


def user_file() -> Path:
    """The file that kubectl would write to: the first of ``$KUBECONFIG``, or ~/.kube/config."""
    for part in os.environ.get("KUBECONFIG", "").split(os.pathsep):
        if part:
            return Path(part)
    return Path.home() / ".kube" / "config"


def merged(existing: Document, ours: Document) -> Document:
    """*existing* with the entries of *ours* in place of entries of the same name, and its context current."""
    result = {"apiVersion": "v1", "kind": "Config", "preferences": {}, **existing}
    for section in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in ours[section]}
        kept = [entry for entry in existing.get(section) or () if entry["name"] not in names]
        result[section] = kept + ours[section]
    result["current-context"] = ours["current-context"]
    return result


def without(existing: Document, context: str) -> Document:
    """*existing* without the context, cluster and user named *context*."""
    result = dict(existing)
    for section in ("clusters", "users", "contexts"):
        result[section] = [entry for entry in existing.get(section) or () if entry["name"] != context]
    if result.get("current-context") == context:
        result["current-context"] = ""
    return result


def add(path: Path, ours: Path) -> None:
    """Merge *ours* in and make its context the current one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(path):
        _write(path, merged(_read(path), _read(ours)))


def remove(path: Path, context: str) -> None:
    """Take the context out; a file that then holds nothing is removed."""
    if not path.parent.exists():
        return
    with _alone(path):
        existing = _read(path)
        if not any(entry["name"] == context for entry in existing.get("contexts") or ()):
            return
        left = without(existing, context)
        if any(left[section] for section in ("clusters", "users", "contexts")):
            _write(path, left)
        else:
            path.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps two commands from changing the file at once; the one would undo what the other did."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _read(path: Path) -> Document:
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    return document or {}


def _write(path: Path, document: Document) -> None:
    # A kubeconfig is often a symlink into a dotfiles folder; what it points to is rewritten, not the link.
    write_secret(path.resolve(), yaml.safe_dump(document, sort_keys=False).encode())
