"""Having a container's image on the node: pull policies, credentials, back-off, and what is said about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from cri_api.v1 import api_pb2 as pb

from ..api import meta
from ..api.meta import Object
from ..client import EventRecorder
from . import image_names
from . import pod as pods
from .backoff import BackOff
from .cri import ImageInfo, Runtime, RuntimeFailure
from .status import Waiting

_PARALLEL_PULLS = 5


class ImageProblem(Exception):
    """The image is not to be had now. *waiting* says why, *retry_at* (time.monotonic) when to try again."""

    def __init__(self, waiting: Waiting, retry_at: float) -> None:
        super().__init__(f"{waiting.reason}: {waiting.message}")
        self.waiting = waiting
        self.retry_at = retry_at


class Images:
    """The node's images. One for the whole node, so that pulls are shared and bounded."""

    def __init__(self, runtime: Runtime, events: EventRecorder) -> None:
        self._runtime = runtime
        self._events = events
        self._back_off = BackOff()
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}
        self._slots = asyncio.Semaphore(_PARALLEL_PULLS)
        self._stand_ins: set[tuple[str, str]] = set()

    async def ensure(
        self, pod: Object, container: Object, secrets: Iterable[Object], sandbox_config: Any
    ) -> tuple[str, ImageInfo]:
        """The name to give to the runtime and what the image is; pulled if need be. Raises ImageProblem."""
        image = container.get("image", "")
        path = pods.field_path(pod, container["name"])
        try:
            name = image_names.with_default_tag(image)
        except image_names.InvalidImageName as error:
            message = (
                f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {error}'
            )
            self._events.event(pod, "Warning", "InspectFailed", message, field_path=path)
            raise self._problem("InvalidImageName", message) from error
        try:
            info = await self._runtime.image(name)
        except RuntimeFailure as error:
            if error.unreachable:
                raise
            message = f'Failed to inspect image "{image}": {error}'
            self._events.event(pod, "Warning", "InspectFailed", message, field_path=path)
            raise self._problem("ImageInspectError", message) from error
        policy = container.get("imagePullPolicy") or (
            "Always" if name.endswith(":latest") else "IfNotPresent"
        )
        if info is not None and policy != "Always":
            message = f'Container image "{image}" already present on machine and can be accessed by the pod'
            self._events.event(pod, "Normal", "Pulled", message, field_path=path)
            self._announce_stand_in(pod, image, path, info)
            return name, info
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            self._events.event(pod, "Warning", "ErrImageNeverPull", message, field_path=path)
            raise self._problem("ErrImageNeverPull", message)
        if info is not None and image_names.STAND_IN_LABEL in info.labels:
            # There is nothing to pull: whoever put a stand-in here did so for want of a registry.
            message = f'Container image "{image}" already present on machine and can be accessed by the pod'
            self._events.event(pod, "Normal", "Pulled", message, field_path=path)
            self._announce_stand_in(pod, image, path, info)
            return name, info
        info = await self._pull(pod, image, name, path, secrets, sandbox_config)
        self._announce_stand_in(pod, image, path, info)
        return name, info

    async def _pull(
        self, pod: Object, image: str, name: str, path: str, secrets: Iterable[Object], sandbox_config: Any
    ) -> ImageInfo:
        key = (meta.uid(pod), image)
        failed_at, reason = self._failed.get(key, (0.0, ""))
        until = self._back_off.until(key, failed_at)
        if until > time.monotonic():
            self._events.event(pod, "Normal", "BackOff", f'Back-off pulling image "{image}"', field_path=path)
            message = f'Back-off pulling image "{image}": {reason}'
            raise ImageProblem(Waiting("ImagePullBackOff", message), until)
        self._events.event(pod, "Normal", "Pulling", f'Pulling image "{image}"', field_path=path)
        asked = time.monotonic()
        try:
            async with self._slots:
                begun = time.monotonic()
                await self._pull_with_any(name, image_names.logins(secrets, image), sandbox_config)
            took, waited = time.monotonic() - begun, time.monotonic() - asked
            info = await self._runtime.image(name)
        except RuntimeFailure as error:
            if error.unreachable and not error.description.startswith("failed to pull"):
                raise
            now = time.monotonic()
            self._events.event(
                pod, "Warning", "Failed", f'Failed to pull image "{image}": {error}', field_path=path
            )
            self._failed[key] = (now, f"ErrImagePull: {error}")
            self._back_off.next(key, now, now)
            raise self._problem("ErrImagePull", str(error), now + 2.0) from error
        if info is None:
            raise self._problem("ErrImagePull", f'image "{image}" is gone right after it was pulled')
        self._failed.pop(key, None)
        self._back_off.forget(key)
        message = (
            f'Successfully pulled image "{image}" in {go_duration(took)} '
            f"({go_duration(waited)} including waiting). Image size: {info.size} bytes."
        )
        self._events.event(pod, "Normal", "Pulled", message, field_path=path)
        return info

    async def _pull_with_any(self, name: str, logins: list[image_names.Login], sandbox_config: Any) -> None:
        """Try one login after the other; without any, none."""
        for index, login in enumerate(logins or [image_names.Login()]):
            auth = pb.AuthConfig(
                username=login.username,
                password=login.password,
                identity_token=login.identity_token,
                registry_token=login.registry_token,
            )
            try:
                await self._runtime.pull_image(name, auth if logins else None, sandbox_config)
            except RuntimeFailure:
                if index + 1 >= len(logins):
                    raise
            else:
                return

    def _announce_stand_in(self, pod: Object, image: str, path: str, info: ImageInfo) -> None:
        original = info.labels.get(image_names.STAND_IN_LABEL)
        if original is None or (meta.uid(pod), image) in self._stand_ins:
            return
        self._stand_ins.add((meta.uid(pod), image))
        self._events.event(
            pod,
            "Warning",
            "StandInImage",
            f'Container image "{image}" is a stand-in made on this machine for "{original or image}"; '
            "it is not the image that a registry has by this name",
            field_path=path,
        )

    def forget(self, uid: str) -> None:
        """Forget what was noted for that Pod."""
        for key in [key for key in self._failed if key[0] == uid]:
            del self._failed[key]
            self._back_off.forget(key)
        self._stand_ins = {key for key in self._stand_ins if key[0] != uid}

    def _problem(self, reason: str, message: str, retry_at: float | None = None) -> ImageProblem:
        at = time.monotonic() + 10.0 if retry_at is None else retry_at
        return ImageProblem(Waiting(reason, message), at)


def go_duration(seconds: float) -> str:
    """A span as Go prints it, cut to milliseconds: ``850ms``, ``1.2s``, ``1m5.5s``."""
    milliseconds = int(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
