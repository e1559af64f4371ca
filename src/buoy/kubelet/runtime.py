"""What the runtime holds for a Pod, as plain values. Times are nanoseconds since the epoch, 0 for never."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

NAME_LABEL = "io.kubernetes.pod.name"
NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
UID_LABEL = "io.kubernetes.pod.uid"
CONTAINER_LABEL = "io.kubernetes.container.name"
HASH_ANNOTATION = "io.kubernetes.container.hash"
RESTART_COUNT_ANNOTATION = "io.kubernetes.container.restartCount"
MESSAGE_PATH_ANNOTATION = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY_ANNOTATION = "io.kubernetes.container.terminationMessagePolicy"
GRACE_ANNOTATION = "io.kubernetes.pod.terminationGracePeriod"

ContainerState = Literal["created", "running", "exited", "unknown"]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """*ips* is empty for a Pod on the node's own network."""

    id: str
    attempt: int
    ready: bool
    created_at: int
    ips: tuple[str, ...] = ()
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    name: str
    sandbox_id: str
    state: ContainerState
    restart_count: int = 0
    hash: str = ""
    image: str = ""
    image_ref: str = ""
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def succeeded(self) -> bool:
        return self.state == "exited" and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class PodRuntime:
    """All sandboxes and containers of one Pod, the newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = field(default=())
    grace_period: int = 1

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    def latest(self, name: str) -> Container | None:
        """The newest container of that name."""
        return next((container for container in self.containers if container.name == name), None)

    def current(self, name: str) -> Container | None:
        """The newest container of that name, if it belongs to the newest sandbox."""
        container = self.latest(name)
        return container if container and self.sandbox and container.sandbox_id == self.sandbox.id else None

    def previous(self, name: str) -> Container | None:
        """The newest but one."""
        found = [container for container in self.containers if container.name == name]
        return found[1] if len(found) > 1 else None

    def not_yet_running(self, ids: Collection[str]) -> PodRuntime:
        """The same, but with the containers of these *ids* only created, if they run."""
        if not ids:
            return self
        containers = (
            replace(c, state="created") if c.running and c.id in ids else c for c in self.containers
        )
        return replace(self, containers=tuple(containers))

    @property
    def running(self) -> tuple[Container, ...]:
        return tuple(c for c in self.containers if c.state in ("running", "unknown"))

    @property
    def ended(self) -> bool:
        """Nothing of the Pod runs any more."""
        return not self.running and not any(sandbox.ready for sandbox in self.sandboxes)

    @property
    def states(self) -> frozenset[tuple[str, str]]:
        """The ids of sandboxes and containers with their states, to compare with what a relist says."""
        sandboxes = ((s.id, "ready" if s.ready else "notready") for s in self.sandboxes)
        return frozenset((*sandboxes, *((c.id, c.state) for c in self.containers)))
