"""containerd's event service, as far as a kubelet needs it: which container's process started or ended.

CRI has events of its own, but containerd 1.6 does not speak them. Field numbers are those of containerd's
``api/services/events/v1/events.proto`` and ``api/events/task.proto``.
"""

from __future__ import annotations

from typing import NamedTuple

from . import protobuf

METHOD = "/containerd.services.events.v1.Events/Subscribe"


class TaskEvent(NamedTuple):
    """*kind* is ``exit``, ``start``, ``oom`` or ``delete``. The container may be a sandbox."""

    kind: str
    container_id: str


_types = protobuf.declare(
    "buoy.containerd",
    {
        "SubscribeRequest": [("filters", 1, "strings")],
        "Content": [("value", 2, "bytes")],
        "Envelope": [("topic", 3, "string"), ("event", 4, "Content")],
        # A task's own exit has its container's id, an exec's another. TaskDelete has it in field 5, where
        # TaskExit has a time.
        "Task": [("container_id", 1, "string"), ("exit_id", 2, "string"), ("delete_id", 5, "bytes")],
    },
)


def subscription(namespace: str) -> bytes:
    """The request that asks for all events of tasks in that containerd namespace."""
    request = _types["SubscribeRequest"](
        filters=[f'namespace=={namespace},topic~="^/tasks/(exit|start|oom|delete)$"']
    )
    return bytes(request.SerializeToString())


def task_event(envelope: bytes) -> TaskEvent | None:
    """What an answer says, None if it is about a process that was only executed in a container."""
    decoded = _types["Envelope"].FromString(envelope)
    task = _types["Task"].FromString(decoded.event.value)
    kind = decoded.topic.rpartition("/")[2]
    process = task.delete_id.decode() if kind == "delete" else task.exit_id
    if process and process != task.container_id:
        return None
    return TaskEvent(kind, task.container_id)
