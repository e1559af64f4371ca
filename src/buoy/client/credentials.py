"""Who a client is: tokens and certificates, fixed, read from a file, or fetched from a credential plugin."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from ..api import meta

_TOKEN_FILE_SECONDS = 60.0  # a projected token is renewed long before it expires; client-go re-reads as often
_PLUGIN_SECONDS = 60.0


class Credential(NamedTuple):
    """What is shown to the server: a bearer token, a client certificate with its key (PEM), both or none."""

    token: str = ""
    certificate: str = ""
    key: str = ""


class CredentialError(OSError):
    """No credential could be had: a file is not readable, or the plugin failed."""


class CredentialSource(Protocol):
    async def get(self, *, refresh: bool = False) -> Credential:
        """The credential to use now; *refresh* when the server has just refused the last one."""
        ...


class Fixed:
    """A credential that never changes."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def get(self, *, refresh: bool = False) -> Credential:
        return self._credential


class TokenFile:
    """A bearer token that something else keeps fresh in a file, such as a mounted service account token."""

    def __init__(self, path: str, certificate: str = "", key: str = "") -> None:
        self._path = path
        self._certificate = certificate
        self._key = key
        self._read_at = 0.0
        self._credential = Credential()

    async def get(self, *, refresh: bool = False) -> Credential:
        if refresh or not self._read_at or time.monotonic() - self._read_at > _TOKEN_FILE_SECONDS:
            self._read()
        return self._credential

    def _read(self) -> None:
        try:
            with open(self._path, encoding="ascii") as file:
                token = file.read().strip()
        except OSError as error:
            raise CredentialError(f"cannot read the token file {self._path}: {error}") from error
        self._credential = Credential(token, self._certificate, self._key)
        self._read_at = time.monotonic()


class Plugin:
    """A credential plugin: the ``exec`` section of a kubeconfig user (client.authentication.k8s.io/v1).

    *cluster* is handed to the plugin if it asks for it (``provideClusterInfo``).
    """

    def __init__(self, spec: Mapping[str, Any], cluster: Mapping[str, Any], directory: str) -> None:
        self._spec = spec
        self._cluster = cluster
        self._directory = directory
        self._credential: Credential | None = None
        self._expires = float("inf")
        self._lock = asyncio.Lock()

    async def get(self, *, refresh: bool = False) -> Credential:
        refused = self._credential if refresh else None
        async with self._lock:
            current = self._credential
            if current is None or current is refused or time.time() >= self._expires:
                current = await self._run()
            return current

    async def _run(self) -> Credential:
        command = str(self._spec["command"])
        if "/" in command and not os.path.isabs(command):
            command = os.path.join(self._directory, command)
        info: dict[str, Any] = {
            "apiVersion": self._spec["apiVersion"],
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        if self._spec.get("provideClusterInfo"):
            info["spec"]["cluster"] = dict(self._cluster)
        environment = dict(os.environ)
        environment.update((entry["name"], entry["value"]) for entry in self._spec.get("env") or ())
        environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(info).decode()
        try:
            process = await asyncio.create_subprocess_exec(
                command,
                *(self._spec.get("args") or ()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = self._spec.get("installHint") or ""
            raise CredentialError(f"exec: {command}: {error}\n{hint}".rstrip()) from error
        try:
            async with asyncio.timeout(_PLUGIN_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise CredentialError(f"exec: {command}: no answer within {_PLUGIN_SECONDS:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise CredentialError(f"exec: executable {command} failed with exit code {process.returncode}")
        try:
            status = msgspec.json.decode(output)["status"]
            credential = Credential(
                str(status.get("token") or ""),
                str(status.get("clientCertificateData") or ""),
                str(status.get("clientKeyData") or ""),
            )
            expiry = status.get("expirationTimestamp")
            self._expires = meta.parse_time(expiry).timestamp() if expiry else float("inf")
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CredentialError(f"exec: {command}: not an ExecCredential: {error!r}") from error
        self._credential = credential
        return credential
