"""Service account tokens for Pods: asked for through TokenRequest, kept, and renewed in time."""

from __future__ import annotations

import time
from typing import NamedTuple

from ..api import meta
from ..api.meta import Object
from ..api.resource import SERVICE_ACCOUNTS
from ..api.status import StatusError
from ..client import Client, ConnectionFailed
from .volume_files import TokenRequest

_LONGEST_USE = 24 * 3600.0


class Token(NamedTuple):
    """*renew_at* and *expires_at* are seconds since the epoch."""

    text: str
    renew_at: float
    expires_at: float


class Tokens:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: dict[tuple[str, TokenRequest], Token] = {}

    async def get(self, pod: Object, wanted: TokenRequest) -> Token:
        """A token that is still good for a while. StatusError or ConnectionFailed if there is none."""
        key = (meta.uid(pod), wanted)
        kept = self._kept.get(key)
        now = time.time()
        if kept is not None and now < kept.renew_at:
            return kept
        try:
            token = await self._request(pod, wanted, now)
        except (StatusError, ConnectionFailed):
            if kept is not None and now < kept.expires_at:
                return kept._replace(renew_at=now + 60)
            raise
        self._kept[key] = token
        return token

    async def _request(self, pod: Object, wanted: TokenRequest, now: float) -> Token:
        account = pod["spec"].get("serviceAccountName") or "default"
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": account, "namespace": meta.namespace(pod)},
            "spec": {
                "audiences": [wanted.audience] if wanted.audience else [],
                "expirationSeconds": wanted.seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": meta.name(pod),
                    "uid": meta.uid(pod),
                },
            },
        }
        answer = await self._client.create(
            SERVICE_ACCOUNTS, request, meta.namespace(pod), subresource="token", name=account
        )
        expires = meta.parse_time(answer["status"]["expirationTimestamp"]).timestamp()
        renew = min(now + 0.8 * (expires - now), now + _LONGEST_USE)
        return Token(answer["status"]["token"], renew, expires)

    def forget(self, uid: str) -> None:
        for key in [key for key in self._kept if key[0] == uid]:
            del self._kept[key]
