"""The nodes' kubelets, as the API server asks them; what becomes of their refusals."""

from __future__ import annotations

import errno
import ssl
from typing import Any

import aiohttp

from buoy.api.formats import host_port
from buoy.api.node import addresses
from buoy.api.resource import NODES
from buoy.api.status import StatusError, bad_request, not_found

from . import Options
from .registry import Registry

CONNECT_SECONDS = 10.0
KUBELET_PORT = 10250


class Kubelets:
    """Where the nodes' kubelets are, and how to be let in."""

    def __init__(self, options: Options, registry: Registry) -> None:
        self._registry = registry
        self.context = ssl.create_default_context(cafile=options.kubelet_ca)
        self.context.load_cert_chain(options.kubelet_client_cert, options.kubelet_client_key)
        self._session: aiohttp.ClientSession | None = None

    async def address(self, node_name: str) -> tuple[str, int]:
        """Raises StatusError if there is no such node, or it has not said where it is."""
        node = await self._registry.find(NODES, "", node_name)
        if node is None:
            raise not_found(NODES, node_name)
        found = addresses(node, "InternalIP") or addresses(node, "ExternalIP") or addresses(node, "Hostname")
        if not found:
            raise StatusError(500, "", f"no preferred addresses found; known addresses: {found}")
        endpoints = (node.get("status") or {}).get("daemonEndpoints") or {}
        port = (endpoints.get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
        return found[0], int(port)

    async def url(self, node_name: str, path: str, query: str = "") -> str:
        host, port = await self.address(node_name)
        return f"https://{host_port(host, port)}{path}" + (f"?{query}" if query else "")

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.context, limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def dial_error(host: str, port: int | str, error: BaseException) -> StatusError:
    """The kubelet does not answer."""
    return StatusError(
        500, "", f"error dialing backend: dial tcp {host_port(host, port)}: {dial_text(error)}"
    )


def dial_text(error: BaseException) -> str:
    """Why a connection could not be made, in Go's words."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(error, OSError) and error.errno == errno.EHOSTUNREACH:
        return "connect: no route to host"
    return str(error) or type(error).__name__


def proxied_error(code: int, text: str, resource: str, name: str) -> StatusError:
    """What a kubelet's refusal becomes for the client."""
    if code == 400:
        return bad_request(text)
    if code == 500:
        return StatusError(500, "InternalError", f"Internal error occurred: {text}")
    if code == 404:
        return StatusError(
            404, "NotFound", f"the server could not find the requested resource ( {resource} {name})"
        )
    details: dict[str, Any] = {"name": name, "kind": resource, "causes": [{"message": text}]}
    return StatusError(code, "", f"the server responded with the status code {code}: {text}", details)
