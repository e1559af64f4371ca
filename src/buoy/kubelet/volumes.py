"""A Pod's directory on the node: its volumes, its hosts file, where its containers leave their last words.

Everything here touches the file system and is to be called in a thread. All may be done again at any time.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping

from ..api import meta, quantity
from ..api.meta import Object
from . import atomic_writer, mounts
from .atomic_writer import File
from .config import Mount
from .environment import ConfigError, expand
from .volume_files import KINDS
from .volume_owner import set_ownership

_PLUGINS = {
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
    "emptyDir": "kubernetes.io~empty-dir",
    "local": "kubernetes.io~local-volume",
}
_NO_SOURCE = ("name", "persistentVolume", "readOnly")
_IN_MEMORY = ("secret", "downwardAPI", "projected")
_HOST_PATH_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class VolumeError(Exception):
    """A volume could not be set up."""


def shown_name(volume: Object) -> str:
    """What events call it: a claim's volume by the name of the PersistentVolume."""
    return str(volume.get("persistentVolume") or volume["name"])


def kind_of(volume: Object) -> str:
    return next((key for key in volume if key not in _NO_SOURCE and volume[key] is not None), "emptyDir")


class PodDirectories:
    """Where Pods keep what is on this node, below *root*."""

    def __init__(self, root: str) -> None:
        self._pods = os.path.join(root, "pods")

    def path(self, uid: str) -> str:
        return os.path.join(self._pods, uid)

    def uids(self) -> list[str]:
        """The Pods that have a directory."""
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(self._pods)
        return []

    def volume_path(self, pod: Object, volume: Object) -> str:
        kind = kind_of(volume)
        if kind == "hostPath":
            return str(volume["hostPath"]["path"])
        return os.path.join(self.path(meta.uid(pod)), "volumes", _PLUGINS[kind], shown_name(volume))

    def set_up(self, pod: Object, volume: Object, files: Mapping[str, File]) -> None:
        """Make the volume as it should be; *files* are its content if it is of a kind that has any.

        Raises VolumeError.
        """
        kind = kind_of(volume)
        try:
            if kind == "hostPath":
                _check_host_path(volume["hostPath"])
            elif kind == "emptyDir":
                self._set_up_empty_dir(pod, volume)
            elif kind == "local":
                self._set_up_local(pod, volume)
            elif kind in KINDS:
                path = self.volume_path(pod, volume)
                os.makedirs(path, exist_ok=True)
                if kind in _IN_MEMORY and not os.path.ismount(path):
                    mounts.mount_tmpfs(path, "mode=0777")
                os.chmod(path, 0o777)  # noqa: S103
                group = _fs_group(pod)
                atomic_writer.write(path, files, group)
                if group is not None:
                    os.chown(path, -1, group)
                    os.chmod(path, 0o2777)  # noqa: S103
            else:
                raise VolumeError(f"volumes of kind {kind} are not supported")
        except OSError as error:
            raise VolumeError(str(error)) from error

    def _set_up_empty_dir(self, pod: Object, volume: Object) -> None:
        path = self.volume_path(pod, volume)
        fresh = not os.path.isdir(path)
        os.makedirs(path, exist_ok=True)
        source = volume.get("emptyDir") or {}
        medium = source.get("medium") or ""
        if medium == "Memory":
            if not os.path.ismount(path):
                size = source.get("sizeLimit")
                bytes_limit = quantity.whole(size) if size not in (None, "0") else 0
                mounts.mount_tmpfs(path, f"mode=0777,size={bytes_limit}" if bytes_limit else "mode=0777")
        elif medium:
            raise VolumeError(f'unknown storage medium "{medium}"')
        if fresh:
            os.chmod(path, 0o777)  # noqa: S103
            group = _fs_group(pod)
            if group is not None:
                os.chown(path, -1, group)
                os.chmod(path, 0o2777)  # noqa: S103

    def _set_up_local(self, pod: Object, volume: Object) -> None:
        """A folder of this node, bound to where the Pod has its volumes.

        The first Pod that has it gives it its group; to change that under others would take it from them.
        """
        source, target = volume["local"]["path"], self.volume_path(pod, volume)
        if not os.path.exists(source):
            raise VolumeError(f'path "{source}" does not exist')
        os.makedirs(target, exist_ok=True)
        if os.path.ismount(target) or target in mounts.mounts_below(target):
            return
        group = _fs_group(pod)
        if group is not None and not volume.get("readOnly") and not self.in_use(volume):
            policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
            set_ownership(source, group, policy)
        mounts.bind(source, target)

    def in_use(self, volume: Object) -> bool:
        """Whether some Pod here has that local volume already."""
        own = os.stat(volume["local"]["path"])
        for uid in self.uids():
            path = os.path.join(self.path(uid), "volumes", _PLUGINS["local"], shown_name(volume))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), own):
                    return True
        return False

    def container_mounts(
        self,
        pod: Object,
        container: Object,
        environment: Mapping[str, str],
        claimed: Mapping[str, Object] | None = None,
    ) -> list[Mount]:
        """What the container's ``volumeMounts`` bring into it. Raises ConfigError.

        *claimed* are, by name, the volumes behind claims with a source of their own.
        """
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        volumes |= claimed or {}
        found = []
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            volume = volumes.get(mount["name"])
            if volume is None:
                raise ConfigError(f'volume "{mount["name"]}" not found')
            path = self.volume_path(pod, volume)
            sub_path = mount.get("subPath") or ""
            if mount.get("subPathExpr"):
                sub_path = _expand_strictly(mount["subPathExpr"], environment)
            if sub_path:
                if os.path.isabs(sub_path) or ".." in sub_path.split("/"):
                    raise ConfigError(
                        f'failed to prepare subPath for volumeMount "{mount["name"]}" of container '
                        f'"{container["name"]}"'
                    )
                target = os.path.join(
                    self.path(meta.uid(pod)), "volume-subpaths", volume["name"], container["name"], str(index)
                )
                try:
                    mounts.bind_beneath(path, sub_path, target, stat.S_IMODE(os.stat(path).st_mode))
                except OSError as error:
                    raise ConfigError(
                        f'failed to prepare subPath for volumeMount "{mount["name"]}" of container '
                        f'"{container["name"]}": {error}'
                    ) from error
                path = target
            container_path = mount["mountPath"]
            if not container_path.startswith("/"):
                container_path = f"/{container_path}"
            found.append(
                Mount(
                    path,
                    container_path,
                    bool(mount.get("readOnly") or volume.get("readOnly")) or kind_of(volume) in KINDS,
                    mount.get("mountPropagation") or "None",
                )
            )
        return found

    def write_hosts(self, pod: Object, text: str) -> str:
        """Write the Pod's hosts file; its path."""
        path = os.path.join(self.path(meta.uid(pod)), "etc-hosts")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # In place: the file is mounted in containers that may be running.
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o644)
        return path

    def make_termination_log(self, pod: Object, container_name: str, restart_count: int) -> str:
        """An empty file for a container's last words; its path."""
        directory = os.path.join(self.path(meta.uid(pod)), "containers", container_name)
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, str(restart_count))
        with open(path, "w"):
            os.chmod(path, 0o666)  # noqa: S103
        return path

    def remove_termination_log(self, uid: str, container_name: str, restart_count: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path(uid), "containers", container_name, str(restart_count)))

    def remove_volumes(self, uid: str) -> None:
        """Unmount and remove the Pod's volumes, not its containers' last words. OSError if held."""
        for part in ("volume-subpaths", "volumes"):
            mounts.remove_tree(os.path.join(self.path(uid), part))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path(uid), "etc-hosts"))

    def remove(self, uid: str) -> None:
        """Unmount and remove everything of the Pod. OSError if something holds it."""
        mounts.remove_tree(self.path(uid))


def _fs_group(pod: Object) -> int | None:
    group: int | None = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return group


def _check_host_path(source: Object) -> None:
    path, kind = source["path"], source.get("type") or ""
    if kind == "DirectoryOrCreate" and not os.path.exists(path):
        os.makedirs(path, 0o755)
    if kind == "FileOrCreate" and not os.path.exists(path):
        with open(path, "x"):
            os.chmod(path, 0o644)
    if kind in _HOST_PATH_CHECKS:
        check, words = _HOST_PATH_CHECKS[kind]
        try:
            good = check(os.stat(path).st_mode)
        except FileNotFoundError:
            good = False
        if not good:
            raise VolumeError(f"hostPath type check failed: {path} is not {words}")


def _expand_strictly(text: str, environment: Mapping[str, str]) -> str:
    """subPathExpr: every variable must be there."""
    marked = expand(text.replace("$$", "\0"), environment)
    if "$(" in marked:
        raise ConfigError(f"missing value for {text!r}")
    return marked.replace("\0", "$")
