"""A file is followed however it changes, and whatever its name leads over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from buoy.inotify import FileWatch


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def turn(link: Path, target: str) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def written(folder: Path) -> None:
    (folder / "file").write_text("now")


def replaced(folder: Path) -> None:
    replace(folder / "file", "now")


def removed(folder: Path) -> None:
    (folder / "file").unlink()


def link_before(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "file").rename(folder / "elsewhere" / "target")
    (folder / "file").symlink_to("elsewhere/target")


def link_target_replaced(folder: Path) -> None:
    replace(folder / "elsewhere" / "target", "now")


def volume_before(folder: Path) -> None:
    """As the kubelet lays out a volume of a ConfigMap."""
    for name in ("1", "2"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    (folder / "..data").symlink_to("1")
    (folder / "file").unlink()
    (folder / "file").symlink_to("..data/file")


def volume_turned(folder: Path) -> None:
    turn(folder / "..data", "2")


def other_name_before(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    os.link(folder / "file", folder / "elsewhere" / "other")


def written_by_its_other_name(folder: Path) -> None:
    (folder / "elsewhere" / "other").write_text("now")


def no_file_before(folder: Path) -> None:
    (folder / "file").unlink()


def no_folder_before(folder: Path) -> None:
    (folder / "file").unlink()
    (folder / "file").symlink_to("elsewhere/deeper/target")


def folder_made(folder: Path) -> None:
    (folder / "elsewhere").mkdir()


def nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (nothing, written),
        (nothing, replaced),
        (nothing, removed),
        (no_file_before, written),
        (no_folder_before, folder_made),
        (link_before, link_target_replaced),
        (volume_before, volume_turned),
        (other_name_before, written_by_its_other_name),
    ],
)
async def test_a_change_is_noticed(
    tmp_path: Path, before: Callable[[Path], None], change: Callable[[Path], None]
) -> None:
    written(tmp_path)
    before(tmp_path)
    with FileWatch(str(tmp_path / "file")) as watch:
        changed = asyncio.ensure_future(watch.changed())
        await asyncio.sleep(0)
        assert not changed.done()
        change(tmp_path)
        await asyncio.wait_for(changed, 10)


async def test_a_folder_that_appears_is_watched_next(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for step in (path.parent.parent.mkdir, path.parent.mkdir, path.touch):
        with FileWatch(str(path)) as watch:
            step()
            await asyncio.wait_for(watch.changed(), 10)


async def test_links_in_a_circle_are_watched_all_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    with FileWatch(str(one)) as watch:
        replace(one, "now")
        await asyncio.wait_for(watch.changed(), 10)
