"""One Pod's life on the node: observe, decide (`plan`), act, say how it is; again at any change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, TypeVar

from ..api import meta
from ..api import pods as api_pods
from ..api.meta import Object
from ..api.resource import PODS
from ..api.status import StatusError
from ..client import Client, ConnectionFailed, EventRecorder
from . import Options, cgroups, config, dns
from . import pod as pods
from .backoff import BackOff
from .claims import ClaimError, claim_name, resolve
from .config import ContainerInput, Mount
from .cri import Runtime, RuntimeFailure
from .dns import HostNameError
from .environment import ConfigError, Sources, environment, service_environment
from .handlers import Handlers
from .hooks import HookFailure, run_hook
from .images import ImageProblem, Images, go_duration
from .plan import Kill, Plan, crash_holds, plan, termination_order
from .probes import Probes
from .references import References, decoded
from .runtime import Container, PodRuntime
from .status import Facts, Verdict, Waiting, pod_ips, pod_status, status_patch
from .tokens import Tokens
from .volume_files import KINDS, TokenRequest, token_requests, volume_files
from .volumes import PodDirectories, VolumeError, kind_of, shown_name

log = logging.getLogger(__name__)

_CONFIG_RETRY = 10.0
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 30.0
_LEAST_GRACE_AFTER_HOOK = 2

_T = TypeVar("_T")


@dataclass(slots=True)
class Node:
    """What all Pods of the node share."""

    options: Options
    client: Client
    runtime: Runtime
    events: EventRecorder
    images: Images
    handlers: Handlers
    references: References
    tokens: Tokens
    directories: PodDirectories
    memory_capacity: int
    allocatable: Mapping[str, Decimal]
    crashes: BackOff = field(default_factory=BackOff)
    owners: dict[str, str] = field(default_factory=dict)  # container or sandbox id -> Pod uid
    oom_killed: set[str] = field(default_factory=set)


class Problem(Exception):
    """An action on the whole Pod failed and is to be tried again: *event* reason and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class _Noted(Exception):
    """A container could not be started, and why has been noted."""


async def _complete(call: Coroutine[Any, Any, _T]) -> _T:
    """Await *call* to its end even when cancelled meanwhile: the runtime is not left with half of it."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():  # it may be cancelled more than once
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # whoever cancelled does not care how it went
        raise


async def _all(*calls: Coroutine[Any, Any, None]) -> None:
    """Await all of *calls*, also when one fails; then raise the first failure."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


class PodWorker:
    """Runs one Pod, known by its uid, until it is gone from the node and from the API."""

    def __init__(self, node: Node, pod: Object, runtime: PodRuntime | None = None) -> None:
        self.uid = meta.uid(pod)
        self.pod = pod
        self.runtime = runtime or PodRuntime(self.uid)
        self.probes = Probes(node.handlers, node.events, self.wake)
        self._node = node
        self._fresh = runtime is None  # the runtime has never heard of it: no need to ask
        self._gone = False
        self._verdict: Verdict | None = None
        self._problems: dict[str, Waiting] = {}
        self._retry_at: dict[str, float] = {}
        self._announced_crash: dict[str, str] = {}
        self._action: asyncio.Task[None] | None = None
        self._action_kind: Literal["sync", "kill"] = "sync"
        self._kill_grace = 0
        self._action_retry_at = 0.0
        self._action_delay = 0.0
        self._prepared = False
        self._claimed: dict[str, Object] = {}  # volumes behind claims, by their names in the Pod
        self._renew_at = 0.0
        self._cleaned = False
        self._timer: float | None = None
        self._woken = asyncio.Event()
        self._woken.set()
        self._starting: set[str] = set()  # ids of containers whose postStart hook is not done
        self._ended_waiters: dict[str, asyncio.Event] = {}

    # -- what others tell it

    def wake(self) -> None:
        """Look again: something may have changed."""
        self._woken.set()

    def update(self, pod: Object) -> None:
        """The API has another version of the Pod."""
        if int(pod["metadata"].get("resourceVersion") or 0) <= int(
            self.pod["metadata"].get("resourceVersion") or 0
        ):
            return
        if pod["metadata"].get("labels") != self.pod["metadata"].get("labels") or pod["metadata"].get(
            "annotations"
        ) != self.pod["metadata"].get("annotations"):
            self._prepared = False  # downward API volumes show them
        self.pod = pod
        self._interrupt()
        self.wake()

    def reject(self, verdict: Verdict) -> None:
        """The node does not take the Pod. To be called before `run`."""
        self._verdict = verdict
        self._node.events.event(self.pod, "Warning", verdict.reason, verdict.message)

    def removed(self) -> None:
        """The Pod is gone from the API."""
        self._gone = True
        self._interrupt()
        self.wake()

    def references_changed(self) -> None:
        """A ConfigMap or Secret that the Pod refers to is another one now."""
        self._prepared = False
        self._action_retry_at = 0.0
        self._retry_at = {
            name: at
            for name, at in self._retry_at.items()
            if self._problems.get(name, Waiting("")).reason != "CreateContainerConfigError"
        }
        self.wake()

    def _interrupt(self) -> None:
        """Break off what is being done, if the end of the Pod, or an earlier end, makes it pointless."""
        if self._action is None or not self.ending:
            return
        if self._action_kind == "sync" or self._grace() < self._kill_grace:
            self._action.cancel()

    @property
    def ending(self) -> bool:
        return self._gone or meta.is_terminating(self.pod) or self._verdict is not None

    @property
    def occupies(self) -> bool:
        """It has its share of what the node has to give."""
        over = self._verdict is not None and self.runtime.ended
        return not (self._gone or over or api_pods.is_terminal(self.pod))

    @property
    def stopping(self) -> bool:
        """Its containers are being stopped by this kubelet, which will look at them afterwards anyway."""
        return self._action is not None and self._action_kind == "kill"

    def _grace(self) -> int:
        # Gone from the API without this kubelet's doing: somebody forced it.
        return 1 if self._gone else pods.grace_period(self.pod)

    async def container_ended(self, container_id: str) -> None:
        """Wait until that container does not run."""
        while any(c.id == container_id and c.running for c in self.runtime.containers):
            await self._ended_waiters.setdefault(container_id, asyncio.Event()).wait()

    def runtime_container(self, container_id: str) -> Container | None:
        return next((c for c in self.runtime.containers if c.id == container_id), None)

    # -- the loop

    async def run(self) -> None:
        """Tend the Pod until nothing is left to do for it."""
        delay = _FIRST_RETRY
        self._node.references.use(self.pod)
        try:
            while True:
                self._woken.clear()
                try:
                    if await self._sync():
                        return
                    delay = _FIRST_RETRY
                except (RuntimeFailure, StatusError, ConnectionFailed, OSError) as error:
                    self._log_failure(error)
                    self._wake_at(time.monotonic() + delay)
                    delay = min(2 * delay, _LONGEST_RETRY)
                await self._wait()
        finally:
            self.probes.stop()
            self._node.references.release(self.uid)
            if self._action is not None:
                self._action.cancel()
                await asyncio.wait([self._action])

    def _log_failure(self, error: Exception) -> None:
        # That the runtime or the API server is away is said once for all Pods, by whoever follows it.
        away = isinstance(error, ConnectionFailed) or getattr(error, "unreachable", False)
        log.log(logging.DEBUG if away else logging.WARNING, "pod %s: %s", pods.describe(self.pod), error)

    def _wake_at(self, moment: float) -> None:
        """Wake no later than *moment* (time.monotonic)."""
        self._timer = moment if self._timer is None else min(self._timer, moment)

    async def _wait(self) -> None:
        timer, self._timer = self._timer, None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if timer is None else max(0.0, timer - time.monotonic())):
                await self._woken.wait()

    async def _sync(self) -> bool:
        """One round; whether the Pod is done with."""
        if not self._fresh:
            observed = await self._node.runtime.pod(self.uid)
            self.runtime = observed.not_yet_running(self._starting)
        self._fresh = False
        self._note_runtime()
        if self._action is not None and self._action.done():
            self._reap()
        self._check_deadline()
        finished = api_pods.is_terminal(self.pod)
        if self.ending or finished:
            self.probes.reconcile(self.pod, self.runtime, self._ip(), killing=True)
            if self._action is None:
                if self.runtime.ended:
                    return await self._finish()
                if self._action_kind == "kill" and self._action_retry_at > time.monotonic():
                    self._wake_at(self._action_retry_at)
                else:
                    self._kill_grace = self._grace()
                    self._begin("kill", self._kill_all(self._kill_grace))
        else:
            self.probes.reconcile(self.pod, self.runtime, self._ip())
            if self._action is None:
                self._decide()
        await self._publish()
        if self._action is None and not self.ending and api_pods.is_terminal(self.pod):
            self.wake()
        return False

    def _note_runtime(self) -> None:
        for sandbox in self.runtime.sandboxes:
            self._node.owners[sandbox.id] = self.uid
        running = set()
        for container in self.runtime.containers:
            self._node.owners[container.id] = self.uid
            if container.running:
                running.add(container.id)
        for container_id in [each for each in self._ended_waiters if each not in running]:
            self._ended_waiters.pop(container_id).set()

    def _decide(self) -> None:
        now = time.time()
        whole = plan(self.pod, self.runtime, self.probes.verdicts)
        held = crash_holds(self.pod, self.runtime, self._crashed_until, now)
        for name in (*whole.init, *whole.start):
            if name in held:
                self._wake_at(time.monotonic() + held[name] - now)
                self._announce_crash(name)
        for name, at in list(self._retry_at.items()):
            if at > time.monotonic():
                held[name] = at
                self._wake_at(at)
            else:
                del self._retry_at[name]
        if self._action_retry_at > time.monotonic():
            self._wake_at(self._action_retry_at)
            return
        step = plan(self.pod, self.runtime, self.probes.verdicts, held)
        if self._renew_at and self._renew_at <= now:
            self._prepared = False
        alive = bool(self.runtime.sandbox and self.runtime.sandbox.ready)
        if step or (alive and not self._prepared):
            self._begin("sync", self._act(step))
        elif self._renew_at:
            self._wake_at(time.monotonic() + self._renew_at - now)

    def _begin(self, kind: Literal["sync", "kill"], action: Coroutine[Any, Any, None]) -> None:
        self._action_kind = kind
        self._action = asyncio.create_task(action, name=f"{kind} {meta.key(self.pod)}")
        self._action.add_done_callback(lambda _: self.wake())

    def _reap(self) -> None:
        """Take note of how the last action went."""
        action, self._action = self._action, None
        assert action is not None
        if action.cancelled():
            return
        error = action.exception()
        if error is None:
            self._action_delay = 0.0
            return
        if isinstance(error, Problem):
            log.info("pod %s: %s", pods.describe(self.pod), error.message)
            self._node.events.event(self.pod, "Warning", error.reason, error.message)
        elif isinstance(error, (RuntimeFailure, StatusError, ConnectionFailed, OSError)):
            self._log_failure(error)
        else:
            raise error
        self._action_delay = min(max(2 * self._action_delay, _FIRST_RETRY), _LONGEST_RETRY)
        self._action_retry_at = time.monotonic() + self._action_delay

    def _check_deadline(self) -> None:
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        started = (self.pod.get("status") or {}).get("startTime")
        if not limit or not started or self.ending or api_pods.is_terminal(self.pod):
            return
        left = meta.parse_time(started).timestamp() + float(limit) - time.time()
        if left > 0:
            self._wake_at(time.monotonic() + left)
            return
        message = "Pod was active on the node longer than the specified deadline"
        self._verdict = Verdict("DeadlineExceeded", message)
        self._node.events.event(self.pod, "Normal", "DeadlineExceeded", message)
        self._interrupt()

    # -- crash back-off

    def _crash_key(self, container: Container) -> tuple[str, str, str]:
        return (self.uid, container.name, container.hash)

    def _crashed_until(self, container: Container) -> float:
        return self._node.crashes.until(self._crash_key(container), container.finished_at / 1e9)

    def _announce_crash(self, name: str) -> None:
        container = self.runtime.latest(name)
        if container is None or self._announced_crash.get(name) == container.id:
            return
        self._announced_crash[name] = container.id
        delay = go_duration(self._node.crashes.delay(self._crash_key(container)))
        about = pods.describe(self.pod)
        self._problems[name] = Waiting(
            "CrashLoopBackOff", f"back-off {delay} restarting failed container={name} pod={about}"
        )
        self._container_event(
            name, "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {about}"
        )

    def _container_event(
        self, name: str, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        self._node.events.event(self.pod, kind, reason, message, field_path=pods.field_path(self.pod, name))

    # -- saying how it is

    def _ip(self) -> str:
        """Where probes and hooks find it."""
        ips = self._ips()
        return ips[0] if ips else "127.0.0.1" if pods.host_network(self.pod) else ""

    def _ips(self) -> tuple[str, ...]:
        return pod_ips(self.pod, self.runtime.sandbox, self._node.options.node_ips)

    async def _publish(self) -> None:
        """Bring the API's status to what it is. If that fails, it is tried again; acting goes on."""
        if self._gone:
            return
        ended = self.ending and self.runtime.ended and self._action is None
        facts = Facts(
            runtime=self.runtime,
            host_ips=self._node.options.node_ips,
            problems=self._problems,
            ready=self.probes.ready,
            started=self.probes.started,
            oom_killed=frozenset(self._node.oom_killed),
            verdict=self._verdict,
            terminated=ended,
            now=meta.now(),
        )
        patch = status_patch(self.pod, pod_status(self.pod, facts))
        if patch is None:
            return
        try:
            stored = await self._node.client.patch(
                PODS,
                meta.name(self.pod),
                meta.namespace(self.pod),
                patch,
                type="strategic",
                subresource="status",
            )
        except StatusError as error:
            if error.code in (404, 409):  # gone, or replaced by another of that name: the watch will say so
                log.info("pod %s: status: %s", pods.describe(self.pod), error)
                return
            log.warning("pod %s: status: %s", pods.describe(self.pod), error)
            self._wake_at(time.monotonic() + 1.0)
        except ConnectionFailed as error:
            log.info("pod %s: status: %s", pods.describe(self.pod), error)
            self._wake_at(time.monotonic() + 1.0)
        else:
            if meta.uid(stored) == self.uid:
                self._adopt(stored)

    def _adopt(self, stored: Object) -> None:
        if int(stored["metadata"]["resourceVersion"]) > int(self.pod["metadata"].get("resourceVersion") or 0):
            was_ending = self.ending
            self.pod = stored
            if self.ending and not was_ending:
                self._interrupt()
                self.wake()

    # -- bringing it up

    async def _act(self, step: Plan) -> None:
        """Do what *step* says, in its order."""
        if step.kill_pod:
            if step.create_sandbox and self.runtime.sandboxes:
                self._node.events.event(
                    self.pod,
                    "Normal",
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                )
            await self._kill_all(self._grace())
            if not step.create_sandbox:
                return
        if step.kill:
            await _all(*(self._kill_one(kill) for kill in step.kill))
        if step.create_sandbox:
            await _all(self._prepare(), self._make_sandbox(step.attempt))
        elif not self._prepared:
            await self._prepare()
        if step.init or step.start:
            # What was killed above counts as ended from here on.
            if step.kill:
                self.runtime = await self._node.runtime.pod(self.uid)
            for name in (*step.init, *step.start):
                await self._start_container(name)
                self.wake()
            if any(container.state == "exited" for container in self.runtime.containers):
                await self._collect_garbage()

    async def _prepare(self) -> None:
        """Set up all volumes, with the content they should have now. Raises Problem."""
        self._prepared = True
        try:
            await self._set_up_volumes()
        except BaseException:
            self._prepared = False
            raise

    async def _set_up_volumes(self) -> None:
        volumes = self.pod["spec"].get("volumes") or ()
        if not volumes:
            return
        await self._resolve_claims()
        sources = await self._sources(())
        tokens = await self._tokens()
        for volume in (self._claimed.get(each["name"], each) for each in volumes):
            try:
                files = volume_files(self.pod, volume, sources, tokens) if kind_of(volume) in KINDS else {}
                await _complete(asyncio.to_thread(self._node.directories.set_up, self.pod, volume, files))
            except (ConfigError, VolumeError) as error:
                message = f'MountVolume.SetUp failed for volume "{shown_name(volume)}" : {error}'
                raise Problem("FailedMount", message) from error

    async def _resolve_claims(self) -> None:
        """Find what the Pod's claims stand for: once, as a binding does not change. Raises Problem."""
        node, failed, faults = self._node, [], []
        for volume in self.pod["spec"].get("volumes") or ():
            name, claim = volume["name"], claim_name(self.pod, volume)
            if claim is None or name in self._claimed:
                continue
            try:
                found = await resolve(node.client, node.options.node_name, self.pod, volume)
            except ClaimError as error:
                failed.append(name)
                faults.append(f"error processing PVC {meta.namespace(self.pod)}/{claim}: {error}")
            else:
                self._claimed[name] = found
        if failed:
            names = " ".join(failed)
            message = (
                f"Unable to attach or mount volumes: unmounted volumes=[{names}], unattached volumes=[], "
                f"failed to process volumes=[{names}]: {'; '.join(faults)}"
            )
            raise Problem("FailedMount", message)

    async def _tokens(self) -> dict[TokenRequest, str]:
        found: dict[TokenRequest, str] = {}
        renewals = []
        for volume in self.pod["spec"].get("volumes") or ():
            for wanted in token_requests(volume):
                try:
                    token = await self._node.tokens.get(self.pod, wanted)
                except (StatusError, ConnectionFailed) as error:
                    message = (
                        f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
                        f"failed to fetch token: {error}"
                    )
                    raise Problem("FailedMount", message) from error
                found[wanted] = token.text
                renewals.append(token.renew_at)
        self._renew_at = min(renewals, default=0.0)
        return found

    async def _sources(self, pod_ips: tuple[str, ...]) -> Sources:
        config_maps, secrets = pods.config_names(self.pod)
        namespace = meta.namespace(self.pod)
        found_maps, found_secrets = await asyncio.gather(
            self._node.references.config_maps(namespace, config_maps),
            self._node.references.secrets(namespace, secrets),
        )
        return Sources(
            config_maps=found_maps,
            secrets=decoded(found_secrets),
            pod_ips=pod_ips,
            host_ips=self._node.options.node_ips,
            node_name=self._node.options.node_name,
            allocatable=self._node.allocatable,
        )

    def _log_directory(self) -> str:
        name = f"{meta.namespace(self.pod)}_{meta.name(self.pod)}_{self.uid}"
        return os.path.join(self._node.options.pod_logs_dir, name)

    def _sandbox_config(self, attempt: int) -> Any:
        options = self._node.options
        try:
            with open(options.resolv_conf, errors="replace") as file:
                host = dns.parse_resolv_conf(file.read())
        except FileNotFoundError:
            host = dns.Resolver()
        resolver, warnings = dns.pod_resolver(self.pod, host, options.cluster_dns, options.cluster_domain)
        if attempt == 0 and not self.runtime.sandboxes:
            for warning in warnings:
                self._node.events.event(self.pod, "Warning", "DNSConfigForming", warning)
        return config.sandbox_config(
            self.pod,
            attempt=attempt,
            log_directory=self._log_directory(),
            cgroup_parent=cgroups.pod_cgroup(options.cgroup_root, self.pod),
            host_name=dns.sandbox_host_name(self.pod, options.cluster_domain),
            resolver=resolver,
        )

    async def _make_sandbox(self, attempt: int) -> None:
        try:
            wanted = self._sandbox_config(attempt)
            path = cgroups.pod_cgroup(self._node.options.cgroup_root, self.pod)
            await _complete(asyncio.to_thread(self._make_directories, path))
            sandbox_id = await _complete(self._node.runtime.run_sandbox(wanted))
        except RuntimeFailure as error:
            if error.unreachable:
                raise
            raise Problem("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}") from error
        except (HostNameError, OSError) as error:
            raise Problem("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}") from error
        self._node.owners[sandbox_id] = self.uid
        made = await self._node.runtime.sandbox(sandbox_id)
        if made is not None:
            self.runtime = replace(self.runtime, sandboxes=(made, *self.runtime.sandboxes))

    def _make_directories(self, cgroup: str) -> None:
        cgroups.create(cgroup, self.pod)
        os.makedirs(self._log_directory(), exist_ok=True)

    async def _start_container(self, name: str) -> None:
        """Start one container; what stands in the way becomes its waiting reason."""
        container = pods.find_container(self.pod, name)
        sandbox = self.runtime.sandbox
        if container is None or sandbox is None or not sandbox.ready:
            return
        try:
            await self._create_and_start(container, sandbox.id, sandbox.attempt)
        except ImageProblem as problem:
            self._set_problem(name, problem.waiting, problem.retry_at)
        except ConfigError as error:
            self._fail(name, "CreateContainerConfigError", str(error))
        except (StatusError, ConnectionFailed) as error:
            self._fail(name, "CreateContainerConfigError", str(error))
        except HookFailure as error:
            self._problems[name] = Waiting("PostStartHookError", str(error))
        except _Noted:
            pass
        else:
            self._problems.pop(name, None)

    def _fail(self, name: str, reason: str, message: str) -> None:
        self._set_problem(name, Waiting(reason, message), time.monotonic() + _CONFIG_RETRY)

    def _set_problem(self, name: str, problem: Waiting, retry_at: float) -> None:
        self._problems[name] = problem
        self._retry_at[name] = retry_at
        message = problem.message if problem.reason.startswith(("Create", "Run")) else problem.reason
        self._container_event(name, "Warning", "Failed", f"Error: {message}")

    async def _create_and_start(self, container: Object, sandbox_id: str, attempt: int) -> None:
        node, name = self._node, container["name"]
        latest = self.runtime.latest(name)
        restart_count = self._restart_count(name, latest)
        if latest is not None and latest.state == "exited":
            node.crashes.next(self._crash_key(latest), latest.finished_at / 1e9, time.time())
        sandbox_config = self._sandbox_config(attempt)
        image_name, image = await node.images.ensure(
            self.pod, container, await self._pull_secrets(), sandbox_config
        )
        config.check_non_root(self.pod, container, image.uid, image.user)
        if latest is not None and latest.state == "created":
            await _complete(node.runtime.remove_container(latest.id))
        given = await self._container_input(container, restart_count, image_name)
        wanted = config.container_config(self.pod, container, given)
        try:
            container_id = await _complete(node.runtime.create_container(sandbox_id, wanted, sandbox_config))
        except RuntimeFailure as error:
            if error.unreachable:
                raise
            self._fail(name, "CreateContainerError", error.description)
            raise _Noted from error
        node.owners[container_id] = self.uid
        self._container_event(name, "Normal", "Created", "Container created")
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook:
            self._starting.add(container_id)
        try:
            await _complete(node.runtime.start_container(container_id))
        except RuntimeFailure as error:
            if error.unreachable:
                raise
            self._problems[name] = Waiting("RunContainerError", error.description)
            self._container_event(name, "Warning", "Failed", f"Error: {error.description}")
            raise _Noted from error
        self._container_event(name, "Normal", "Started", "Container started")
        self._problems.pop(name, None)
        if hook:
            try:
                await self._post_start(container, container_id, hook)
            finally:
                self._starting.discard(container_id)

    async def _post_start(self, container: Object, container_id: str, hook: Object) -> None:
        try:
            await run_hook(self._node.handlers, hook, container, container_id, self._ip())
        except HookFailure as error:
            name = container["name"]
            log.info("pod %s: postStart of %s: %s", pods.describe(self.pod), name, error)
            self._container_event(name, "Warning", "FailedPostStartHook", "PostStartHook failed")
            self._container_event(name, "Normal", "Killing", "FailedPostStartHook")
            await self._node.runtime.stop_container(container_id, self._grace())
            raise

    def _restart_count(self, name: str, latest: Container | None) -> int:
        known = api_pods.container_status(self.pod, name) or {}
        if latest is not None:
            return latest.restart_count + (latest.state != "created")
        if known.get("containerID"):
            return int(known.get("restartCount") or 0) + 1
        return 0

    async def _pull_secrets(self) -> list[Object]:
        names = [s["name"] for s in self.pod["spec"].get("imagePullSecrets") or () if s.get("name")]
        found = await self._node.references.secrets(meta.namespace(self.pod), names)
        return list(found.values())

    async def _container_input(self, container: Object, restart_count: int, image: str) -> ContainerInput:
        node = self._node
        ips = self._ips()
        links = self.pod["spec"].get("enableServiceLinks") is not False
        services = await node.references.services(meta.namespace(self.pod))
        service_variables = service_environment(services, meta.namespace(self.pod), links)
        variables = environment(self.pod, container, service_variables, await self._sources(ips))
        mounts = await _complete(
            asyncio.to_thread(self._container_mounts, container, variables, restart_count, ips)
        )
        return ContainerInput(
            restart_count=restart_count,
            environment=variables,
            mounts=mounts,
            image=image,
            memory_capacity=node.memory_capacity,
            target=self._target(container),
        )

    def _target(self, container: Object) -> str:
        """The id of the container that an ephemeral one looks at, empty if it does not say."""
        name = container.get("targetContainerName")
        if not name:
            return ""
        found = self.runtime.current(name)
        if found is None or not found.running:
            raise ConfigError(f"unable to find target container {name}")
        return found.id

    def _container_mounts(
        self, container: Object, variables: Mapping[str, str], restart_count: int, ips: tuple[str, ...]
    ) -> list[Mount]:
        directories = self._node.directories
        mounts = directories.container_mounts(self.pod, container, variables, self._claimed)
        taken = {mount.container_path for mount in mounts}
        if "/etc/hosts" not in taken:
            node_hosts = ""
            if pods.host_network(self.pod):
                with contextlib.suppress(OSError), open("/etc/hosts", errors="replace") as file:
                    node_hosts = file.read()
            text = dns.hosts_file(self.pod, ips, self._node.options.cluster_domain, node_hosts)
            mounts.append(Mount(directories.write_hosts(self.pod, text), "/etc/hosts"))
        path = container.get("terminationMessagePath")
        if path and path not in taken:
            made = directories.make_termination_log(self.pod, container["name"], restart_count)
            mounts.append(Mount(made, path))
        return mounts

    # -- taking it down

    async def _kill_all(self, grace: int) -> None:
        """Stop all containers, group after group, within *grace* seconds; then the sandboxes."""
        end = time.monotonic() + grace
        self.runtime = await self._node.runtime.pod(self.uid)
        for group in termination_order(self.pod, self.runtime.running):
            left = max(1, round(end - time.monotonic()))
            await _all(*(self._stop_container(c, f"Stopping container {c.name}", left) for c in group))
        await _all(*(_complete(self._node.runtime.stop_sandbox(s.id)) for s in self.runtime.sandboxes))

    async def _kill_one(self, kill: Kill) -> None:
        container = pods.find_container(self.pod, kill.container.name) or {}
        grace = self._grace()
        if kill.probe is not None:
            own = (container.get(f"{kill.probe}Probe") or {}).get("terminationGracePeriodSeconds")
            grace = int(own) if own is not None else grace
        await self._stop_container(kill.container, kill.message, grace)

    async def _stop_container(self, status: Container, message: str, grace: int) -> None:
        self._container_event(status.name, "Normal", "Killing", message)
        container = pods.find_container(self.pod, status.name) or {}
        hook = (container.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0 and status.running:
            begun = time.monotonic()
            try:
                await run_hook(self._node.handlers, hook, container, status.id, self._ip(), grace)
            except HookFailure as error:
                log.info("pod %s: preStop of %s: %s", pods.describe(self.pod), status.name, error)
                self._container_event(status.name, "Warning", "FailedPreStopHook", "PreStopHook failed")
            grace = max(grace - round(time.monotonic() - begun), _LEAST_GRACE_AFTER_HOOK)
        await self._node.runtime.stop_container(status.id, grace)
        self.wake()

    async def _finish(self) -> bool:
        """Nothing of the Pod runs any more, nor will it: clean up and, if it is to go, let it go."""
        self.probes.stop()
        await self._publish()
        going = self._gone or meta.is_terminating(self.pod)
        if not self._cleaned or going:
            await _complete(asyncio.to_thread(self._clean_up, going))
            self._node.references.release(self.uid)
            self._cleaned = True
        if not going:
            return False
        if not self._gone and not await self._delete():
            return False
        await self._forget()
        return True

    def _clean_up(self, going: bool) -> None:
        directories = self._node.directories
        if going:
            directories.remove(self.uid)
        else:
            directories.remove_volumes(self.uid)
        cgroups.remove(self._node.options.cgroup_root, self.uid)

    async def _delete(self) -> bool:
        """Tell the API that the Pod has ended; whether that is settled."""
        try:
            await self._node.client.delete(
                PODS, meta.name(self.pod), meta.namespace(self.pod), uid=self.uid, grace_period=0
            )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
        return True

    async def _forget(self) -> None:
        """Remove what the runtime and the node still keep of the Pod."""
        node = self._node
        sandboxes = {sandbox.id for sandbox in self.runtime.sandboxes}
        await _all(
            *(
                _complete(node.runtime.remove_container(c.id))
                for c in self.runtime.containers
                if c.sandbox_id not in sandboxes
            )
        )
        await _all(*(_complete(node.runtime.remove_sandbox(each)) for each in sandboxes))
        await asyncio.to_thread(shutil.rmtree, self._log_directory(), True)
        for each in (*sandboxes, *(c.id for c in self.runtime.containers)):
            node.owners.pop(each, None)
            node.oom_killed.discard(each)
        for container in self.runtime.containers:
            node.crashes.forget(self._crash_key(container))
        node.images.forget(self.uid)
        node.tokens.forget(self.uid)

    async def _collect_garbage(self) -> None:
        """Keep one ended container of each name, for its logs, and only sandboxes that are needed."""
        runtime = self.runtime = await self._node.runtime.pod(self.uid)
        seen: set[str] = set()
        stale = []
        for container in runtime.containers:
            if container.state != "exited":
                continue
            if container.name in seen:
                stale.append(container)
            seen.add(container.name)
        for container in stale:
            await _complete(self._node.runtime.remove_container(container.id))
            self._node.owners.pop(container.id, None)
            self._node.oom_killed.discard(container.id)
            await asyncio.to_thread(self._remove_traces, container)
        used = {c.sandbox_id for c in runtime.containers if c not in stale}
        for sandbox in runtime.sandboxes[1:]:
            if not sandbox.ready and sandbox.id not in used:
                await _complete(self._node.runtime.remove_sandbox(sandbox.id))
                self._node.owners.pop(sandbox.id, None)

    def _remove_traces(self, container: Container) -> None:
        with contextlib.suppress(FileNotFoundError):
            if container.log_path:
                os.unlink(container.log_path)
        self._node.directories.remove_termination_log(self.uid, container.name, container.restart_count)
