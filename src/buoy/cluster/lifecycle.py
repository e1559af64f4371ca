"""Starting and ending a local cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..api import meta
from ..api.meta import Object
from ..api.resource import NODES
from ..api.status import StatusError
from ..client import Client, Informer
from . import (
    cluster_dns,
    faults,
    images,
    kubeconfig,
    load_balancer,
    node,
    pki,
    preflight,
    processes,
    state,
    storage,
    warm,
    world,
)
from .config import API_PORT, ClusterConfig
from .state import Running, StateFolder

READY_TIMEOUT = 60.0
_CGROUPS = Path("/sys/fs/cgroup")


class ClusterError(Exception):
    """A cluster cannot be started, found or ended; the message says why and what to do."""


def find(name: str) -> Running:
    """The running cluster of that name. Raises ClusterError."""
    running = state.load(StateFolder.of(name))
    option = "" if name == "buoy" else f" --name {name}"
    if running is None:
        raise ClusterError(f"there is no cluster {name!r}; start one with: buoy up{option}")
    if not running.alive:
        raise ClusterError(
            f"the cluster {name!r} has stopped; start it again with: buoy up{option}, or remove it: "
            f"buoy down{option}"
        )
    return running


def up(config: ClusterConfig, report: Callable[[str], None]) -> Running:
    """Start a cluster and wait until all its nodes are Ready.

    A cluster that has stopped is started again with all it knew; its options cannot change. *report* is
    told each step when it is done. Raises ClusterError.
    """
    troubles = list(preflight.problems(config))
    if troubles:
        raise ClusterError("\n".join(map(str, troubles)))
    folder = StateFolder.of(config.name)
    with state.lock(config.name):
        before = state.load(folder)
        if before and before.alive:
            raise ClusterError(f"the cluster {config.name!r} is running already; buoy status shows it")
        if before and before.config != config:
            raise ClusterError(
                f"the cluster {config.name!r} exists with other options; {_end_it_first(config)}"
            )
        if before and not pki.is_complete(config, folder):
            raise ClusterError(
                f"the cluster {config.name!r} is of an earlier version and lacks keys of its nodes; "
                + _end_it_first(config)
            )
        if before:
            _remove_cgroups(folder)
        elif folder.path.exists():
            shutil.rmtree(folder.path)  # of an attempt that did not come to a running cluster
        try:
            running = _start(config, folder, before, report)
        except (OSError, images.ImageError) as error:
            raise ClusterError(f"the cluster could not be started: {error}") from error
        try:
            asyncio.run(_until_ready(folder, running, before is None, report))
        except BaseException:
            _end(running)
            raise
        kubeconfig.add(kubeconfig.user_file(), folder.kubeconfig)
    return running


def _end_it_first(config: ClusterConfig) -> str:
    return "end it first with: buoy down" + ("" if config.name == "buoy" else f" --name {config.name}")


def _start(
    config: ClusterConfig, folder: StateFolder, before: Running | None, report: Callable[[str], None]
) -> Running:
    prepared = images.prepare(config.stand_in_images)
    for path in (folder.path, folder.logs, folder.store.parent):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    api_socket = _listen(before.api_port if before else API_PORT)
    port: int = api_socket.getsockname()[1]
    with api_socket:
        if before is None:
            pki.create(config, folder, port)
            for name in config.node_names:
                node.prepare(config, folder, name)
            with ThreadPoolExecutor() as pool:
                roots = [folder.node(name) / "containerd" for name in config.node_names]
                linked = pool.map(lambda root: images.link(prepared, root), roots)
                warm.import_components()  # while the other core links files
                list(linked)
        else:
            faults.forget(folder, config.node_names)
            warm.import_components()
            if before.api_port != port:
                pki.set_api_port(folder, port)
        pid = world.start(config, folder, api_socket)
    started = state.start_time(pid)
    if started is None:
        raise OSError(f"its first process ended at once; see {folder.log('world')}")
    running = Running(config, pid, started, port)
    state.save(folder, running)
    report(f"Made the LAN {config.lan} and {config.nodes} nodes on it")
    return running


def _listen(port: int) -> socket.socket:
    """A listening socket on the host's loopback: at *port*, or any other if that is taken."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError:
        return socket.create_server(("127.0.0.1", 0), backlog=1024)


async def _until_ready(
    folder: StateFolder, running: Running, first: bool, report: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    watcher = os.pidfd_open(running.pid)
    loop.add_reader(watcher, ended.set)
    try:
        async with Client.from_kubeconfig(str(folder.kubeconfig)) as client:
            nodes = Informer(client, NODES)
            changed = asyncio.Event()
            nodes.subscribe(lambda old, new: changed.set())
            follow = asyncio.ensure_future(nodes.run())
            death = asyncio.ensure_future(ended.wait())
            waiting = asyncio.ensure_future(_nodes_ready(nodes, changed, set(running.config.node_names)))
            synced = asyncio.ensure_future(nodes.synced())
            try:
                for step, done in (("The API server answers", synced), ("All nodes are Ready", waiting)):
                    await asyncio.wait(
                        [done, death, follow], timeout=READY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
                    )
                    if death.done():
                        raise ClusterError(f"the cluster ended while starting; see {folder.log('world')}")
                    if follow.done():
                        await follow
                    if not done.done():
                        raise ClusterError(
                            f"not within {READY_TIMEOUT:.0f} s: {step}; {_hint(folder, nodes)}"
                        )
                    report(step)
                    if done is synced:
                        await _seed(client, running.config, first, report)
            finally:
                tasks = (follow, death, waiting, synced)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        loop.remove_reader(watcher)
        os.close(watcher)


async def _seed(client: Client, config: ClusterConfig, first: bool, report: Callable[[str], None]) -> None:
    """Make the objects that belong to a cluster; of the load balancer's pool, only at the *first* start."""
    try:
        await cluster_dns.reserve(client, config.cluster_dns)
    except StatusError as refusal:
        report(f"Cluster DNS works, but the Service that shows it could not be made: {refusal}")
    if first:  # whoever deletes it does not want it back
        try:
            await storage.install(client)
        except StatusError as refusal:
            report(f"Local volumes work, but their StorageClass could not be made: {refusal}")
    if config.has_load_balancer:
        try:
            await load_balancer.install(client, config.load_balancer if first else "")
        except StatusError as refusal:
            report(f"The load balancer runs, but cannot be configured: {refusal}")


async def _nodes_ready(nodes: Informer, changed: asyncio.Event, names: set[str]) -> None:
    while True:
        changed.clear()
        if {meta.name(item) for item in nodes.items() if is_ready(item)} >= names:
            return
        await changed.wait()


def is_ready(item: Object) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _hint(folder: StateFolder, nodes: Informer) -> str:
    for item in nodes.items():
        for condition in (item.get("status") or {}).get("conditions") or ():
            if condition["type"] == "Ready" and condition["status"] != "True":
                return f"{meta.name(item)}: {condition.get('message', '')}"
    return f"the logs are in {folder.logs} and {folder.path / 'nodes'}"


def down(name: str) -> None:
    """End a cluster and remove all that was kept of it. Raises ClusterError if there is none."""
    folder = StateFolder.of(name)
    with state.lock(name):
        running = state.load(folder)
        if running is None and not folder.path.exists():
            raise ClusterError(f"there is no cluster {name!r}")
        if running:
            _end(running)
            kubeconfig.remove(kubeconfig.user_file(), running.config.context)
        _remove_cgroups(folder)
        shutil.rmtree(folder.path)
        (state.home() / "clusters" / f".{name}.lock").unlink(missing_ok=True)


def _end(running: Running) -> None:
    """End the cluster's first process; when it is gone, the kernel has taken all the rest away."""
    if not running.alive:
        return
    watcher = os.pidfd_open(running.pid)
    try:
        signal.pidfd_send_signal(watcher, signal.SIGKILL)
        select.select([watcher], [], [], 30.0)
    finally:
        os.close(watcher)


def _remove_cgroups(folder: StateFolder) -> None:
    """The one trace that outlives the cluster's processes: its empty cgroups."""
    deadline = time.monotonic() + 5
    for hierarchy in (_CGROUPS, *_subfolders(_CGROUPS)):
        root = hierarchy / folder.cgroup
        while root.exists():
            for path in sorted(root.rglob("*/"), key=lambda path: -len(path.parts)):
                with contextlib.suppress(OSError):
                    path.rmdir()
            try:
                root.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # a process that has just ended leaves its cgroup a moment later
        with contextlib.suppress(OSError):
            root.parent.rmdir()


def _subfolders(path: Path) -> Iterable[Path]:
    return (entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink())


def memory(running: Running) -> int:
    """The memory of all the cluster's processes, Pods included: summed PSS in bytes."""
    return sum(processes.proportional_memory(pid) for pid in processes.descendants(running.pid))
