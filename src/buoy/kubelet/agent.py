"""The kubelet as a whole: which Pods have a worker, and what wakes them."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Coroutine
from typing import Any

from ..api import meta
from ..api.meta import Object
from ..api.resource import NODES, PODS
from ..api.status import StatusError
from ..client import Client, ConnectionFailed, EventRecorder, Informer
from . import Options, cgroups, logs
from .admission import NODE_AFFINITY, refusal
from .cri import Runtime, RuntimeFailure
from .handlers import Handlers
from .images import Images
from .node import allocatable, amounts, read_machine
from .references import References
from .registration import Registration
from .runtime import PodRuntime
from .status import Verdict
from .tokens import Tokens
from .volumes import PodDirectories
from .worker import Node, PodWorker

log = logging.getLogger(__name__)

_RELIST = 15.0
_RECONNECT = 0.1
_TAKE_UP_AGAIN = 1.0
_SETTLE_FIRST, _SETTLE_LONGEST = 0.002, 0.25
_SETTLE_TIMES = 20


class Kubelet:
    """One node's agent."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._workers: dict[str, PodWorker] = {}  # by uid
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._finished: set[str] = set()  # done with, but still in the API (finalizers)
        self._asking: dict[str, asyncio.Task[None]] = {}  # about the node, before a Pod is taken or refused
        self._known: dict[str, PodRuntime] = {}
        self._settling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled. Pods are left running."""
        options = self._options
        # Secrets are below it.
        os.makedirs(os.path.join(options.root_dir, "pods"), mode=0o750, exist_ok=True)
        os.chmod(os.path.join(options.root_dir, "pods"), 0o750)  # noqa: S103
        os.makedirs(options.pod_logs_dir, exist_ok=True)
        machine = read_machine(options.root_dir)
        async with Client.from_kubeconfig(options.kubeconfig, user_agent="kubelet") as client:
            runtime = Runtime(options.runtime_endpoint, events_namespace=options.containerd_namespace)
            events = EventRecorder(client, "kubelet", options.node_name)
            handlers = Handlers(runtime)
            self._runtime = runtime
            self._node = Node(
                options=options,
                client=client,
                runtime=runtime,
                events=events,
                images=Images(runtime, events),
                handlers=handlers,
                references=References(client, self._references_changed),
                tokens=Tokens(client),
                directories=PodDirectories(options.root_dir),
                memory_capacity=machine.memory,
                allocatable=amounts(allocatable(machine, options.max_pods)),
            )
            self._pods = Informer(client, PODS, field_selector=f"spec.nodeName={options.node_name}")
            self._registration = Registration(options, client, runtime, machine, events)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for part in self._parts(events):
                        tasks.create_task(part)
            finally:
                await self._stop()
                self._node.references.close()
                await handlers.close()
                await runtime.close()

    def _parts(self, events: EventRecorder) -> list[Coroutine[Any, Any, None]]:
        parts = [events.run(), self._registration.run(), self._pods.run(), self._keep_pods()]
        if self._options.tls_cert:
            # Only who serves needs to know how.
            from .server import Server

            server = Server(
                self._options, self._runtime, self._worker_of, lambda: list(self._workers.values())
            )
            parts.append(server.run())
        return parts

    async def _stop(self) -> None:
        tasks = [*self._asking.values(), *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- which Pods there are

    async def _keep_pods(self) -> None:
        while True:
            try:
                await self._runtime.version()
                self._known = await self._runtime.pods()
                break
            except RuntimeFailure as error:
                log.info("runtime: %s", error)
                await asyncio.sleep(_RECONNECT)
        await self._pods.synced()
        self._pods.subscribe(self._pod_changed)
        for uid, runtime in self._known.items():
            if uid not in self._workers:
                self._adopt_orphan(uid, runtime)
        self._known = {}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_runtime())
            tasks.create_task(self._relist())

    def _worker_of(self, key: str) -> PodWorker | None:
        pod = self._pods.get(key)
        return self._workers.get(meta.uid(pod)) if pod else None

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            uid = meta.uid(old)
            self._finished.discard(uid)
            if uid in self._workers:
                self._workers[uid].removed()
            return
        uid = meta.uid(new)
        if uid in self._workers:
            self._workers[uid].update(_typed(new))
        elif uid not in self._finished and uid not in self._asking:
            self._take(_typed(new))

    def _take(self, pod: Object) -> None:
        """Begin with a Pod, or refuse it; one that was taken before stays."""
        uid = meta.uid(pod)
        runtime = self._known.get(uid)
        worker = PodWorker(self._node, pod, runtime)
        begun = runtime is not None or (pod.get("status") or {}).get("startTime")
        if not begun and not worker.ending:
            verdict = self._refusal(pod, self._registration.node)
            if verdict is not None and verdict.reason == NODE_AFFINITY:
                # The label it wants may be on its way.
                self._asking[uid] = asyncio.create_task(self._ask_and_take(pod))
                return
            if verdict is not None:
                worker.reject(verdict)
        self._start(worker)

    async def _ask_and_take(self, pod: Object) -> None:
        """Take or refuse a Pod by what the API server itself says of the node."""
        try:
            node = await self._node.client.get(NODES, self._options.node_name)
        except (StatusError, ConnectionFailed) as error:
            log.warning("pod %s is judged by what was last heard of the node: %s", meta.key(pod), error)
            node = self._registration.node
        del self._asking[meta.uid(pod)]
        current = self._current(pod)
        if current is not None:
            worker = PodWorker(self._node, _typed(current), None)
            verdict = self._refusal(worker.pod, node)
            if verdict is not None and not worker.ending:
                worker.reject(verdict)
            self._start(worker)

    def _refusal(self, pod: Object, node: Object) -> Verdict | None:
        others = (each.pod for each in self._workers.values() if each.occupies)
        return refusal(pod, others, node, self._node.allocatable)

    def _adopt_orphan(self, uid: str, runtime: PodRuntime) -> None:
        """A Pod that the runtime has and the API does not: it goes, with what grace is left to it."""
        log.info("pod %s/%s (%s) is gone from the API: cleaning up", runtime.namespace, runtime.name, uid)
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": runtime.name, "namespace": runtime.namespace, "uid": uid},
            "spec": {"enableServiceLinks": False},
        }
        worker = PodWorker(self._node, pod, runtime)
        worker.removed()
        self._start(worker)

    def _start(self, worker: PodWorker) -> None:
        self._workers[worker.uid] = worker
        task = asyncio.create_task(worker.run(), name=f"pod {meta.key(worker.pod)}")
        self._tasks[worker.uid] = task
        task.add_done_callback(lambda done: self._ended(worker.uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        worker = self._workers.pop(uid)
        del self._tasks[uid]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("pod %s failed; it is taken up again", meta.key(worker.pod), exc_info=error)
            asyncio.get_running_loop().call_later(_TAKE_UP_AGAIN, self._take_up, worker.pod)
        elif self._current(worker.pod) is not None:
            self._finished.add(uid)

    def _take_up(self, pod: Object) -> None:
        uid, current = meta.uid(pod), self._current(pod)
        if uid in self._workers:
            return
        worker = PodWorker(self._node, pod if current is None else _typed(current), PodRuntime(uid))
        if current is None:
            worker.removed()
        self._start(worker)

    def _current(self, pod: Object) -> Object | None:
        """What the API has of that very Pod."""
        found = self._pods.get(meta.key(pod))
        return found if found is not None and meta.uid(found) == meta.uid(pod) else None

    def _references_changed(self, uid: str) -> None:
        if uid in self._workers:
            self._workers[uid].references_changed()

    # -- what the runtime says

    async def _follow_runtime(self) -> None:
        """Wake workers when their containers end, as containerd tells; its restarts lose nothing."""
        while True:
            try:
                await self._runtime.version()
                self._wake_all()
                async for event in self._runtime.task_events():
                    uid = self._node.owners.get(event.container_id)
                    if uid is None:
                        continue
                    worker = self._workers.get(uid)
                    if event.kind == "oom":
                        self._node.oom_killed.add(event.container_id)
                    elif event.kind == "exit" and worker is not None and not worker.stopping:
                        settled = asyncio.create_task(self._settle(uid, event.container_id))
                        self._settling.add(settled)
                        settled.add_done_callback(self._settling.discard)
            except RuntimeFailure as error:
                log.warning("runtime: %s", error)
                self._registration.check()
                await asyncio.sleep(_RECONNECT)

    async def _settle(self, uid: str, container_id: str) -> None:
        """The event comes before CRI knows: wait until it does, then have the Pod looked at."""
        delay = _SETTLE_FIRST
        try:
            for _ in range(_SETTLE_TIMES):
                state = await self._runtime.container_state(container_id)
                if state is None:
                    sandbox = await self._runtime.sandbox(container_id)
                    running = sandbox is not None and sandbox.ready
                else:
                    running = state == "running"
                if not running:
                    break
                await asyncio.sleep(delay)
                delay = min(2 * delay, _SETTLE_LONGEST)
        except RuntimeFailure as error:
            log.debug("runtime: %s", error)
        if uid in self._workers:
            self._workers[uid].wake()

    def _wake_all(self) -> None:
        for worker in self._workers.values():
            worker.wake()

    async def _relist(self) -> None:
        """The safety net: what events did not tell, and what was left behind on disk."""
        while True:
            try:
                states = await self._runtime.states()
            except RuntimeFailure as error:
                log.debug("runtime: %s", error)
            else:
                await self._compare(states)
                await self._rotate_logs()
                await self._remove_leftovers(set(states))
            await asyncio.sleep(_RELIST)

    async def _compare(self, states: dict[str, frozenset[tuple[str, str]]]) -> None:
        for uid, worker in list(self._workers.items()):
            if states.get(uid, frozenset()) != worker.runtime.states:
                worker.wake()
        for uid in states:
            known = {meta.uid(pod) for pod in self._pods.items()}
            if uid not in self._workers and uid not in known:
                runtime = await self._runtime.pod(uid)
                if uid not in self._workers:
                    self._adopt_orphan(uid, runtime)

    async def _rotate_logs(self) -> None:
        for worker in list(self._workers.values()):
            for container in worker.runtime.running:
                path = container.log_path
                if not path or not logs.needs_rotation(path, self._options.container_log_max_size):
                    continue
                try:
                    await asyncio.to_thread(logs.rotate, path, self._options.container_log_max_files)
                    await self._runtime.reopen_log(container.id)
                except (OSError, RuntimeFailure) as error:
                    log.warning("rotating %s: %s", path, error)

    async def _remove_leftovers(self, in_runtime: set[str]) -> None:
        """Directories, logs and cgroups of Pods that nobody knows any more."""
        directories, groups, logs_of = await asyncio.to_thread(self._find_leftovers)
        # Looked for before, not after, what is known: a Pod that comes meanwhile keeps what it has.
        known = in_runtime | set(self._workers)
        try:
            for uid in directories - known:
                await asyncio.to_thread(self._node.directories.remove, uid)
            for uid in groups - known:
                await asyncio.to_thread(cgroups.remove, self._options.cgroup_root, uid)
            for uid in set(logs_of) - known:
                await asyncio.to_thread(shutil.rmtree, logs_of[uid], True)
        except OSError as error:
            log.warning("leftovers: %s", error)

    def _find_leftovers(self) -> tuple[set[str], set[str], dict[str, str]]:
        root = self._options.pod_logs_dir
        logs_of = {name.rpartition("_")[2]: os.path.join(root, name) for name in os.listdir(root)}
        groups = cgroups.uids(self._options.cgroup_root)
        return set(self._node.directories.uids()), groups, logs_of


def _typed(pod: Object) -> Object:
    """Items of a list do not say what they are."""
    return {"apiVersion": "v1", "kind": "Pod", **pod}
