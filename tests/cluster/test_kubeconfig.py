from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import yaml

from buoy.cluster import kubeconfig


def _document(context: str, server: str = "https://127.0.0.1:1") -> dict:
    return {
        "clusters": [{"name": context, "cluster": {"server": server}}],
        "users": [{"name": context, "user": {}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }


def test_a_context_is_added_beside_others_and_becomes_current() -> None:
    result = kubeconfig.merged(_document("work"), _document("buoy"))
    assert [entry["name"] for entry in result["contexts"]] == ["work", "buoy"]
    assert result["current-context"] == "buoy"


def test_a_context_of_the_same_name_is_replaced() -> None:
    result = kubeconfig.merged(_document("buoy", "https://old"), _document("buoy", "https://new"))
    assert [entry["cluster"]["server"] for entry in result["clusters"]] == ["https://new"]


def test_taking_it_out_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "config"
    ours = tmp_path / "ours"
    ours.write_text(yaml.safe_dump(_document("buoy")))
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(_document("work")))
    kubeconfig.add(file, ours)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kubeconfig.remove(file, "buoy")
    left = yaml.safe_load(file.read_text())
    assert [entry["name"] for entry in left["contexts"]] == ["work"]
    assert left["current-context"] == ""


def test_a_file_that_was_ours_alone_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config"
    ours = tmp_path / "ours"
    ours.write_text(yaml.safe_dump(_document("buoy")))
    kubeconfig.add(file, ours)
    kubeconfig.remove(file, "buoy")
    assert not file.exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles"
    link = tmp_path / "config"
    ours = tmp_path / "ours"
    real.write_text(yaml.safe_dump(_document("work")))
    link.symlink_to(real)
    ours.write_text(yaml.safe_dump(_document("buoy")))
    kubeconfig.add(link, ours)
    assert link.is_symlink()
    assert yaml.safe_load(real.read_text())["current-context"] == "buoy"


def test_two_commands_at_once_undo_nothing(tmp_path: Path) -> None:
    """Each in a process of its own, as two shells are."""
    file = tmp_path / "config"
    names = [f"cluster-{number}" for number in range(12)]
    for name in names:
        (tmp_path / name).write_text(yaml.safe_dump(_document(name)))
    program = "import sys; from pathlib import Path; from buoy.cluster import kubeconfig; "
    program += "kubeconfig.add(Path(sys.argv[1]), Path(sys.argv[2]))"
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(file), str(tmp_path / name)]) for name in names
    ]
    assert [process.wait(30) for process in running] == [0] * len(names)
    assert sorted(entry["name"] for entry in yaml.safe_load(file.read_text())["contexts"]) == sorted(names)
