"""The Kubernetes API server: HTTP, authentication, RBAC, admission, storage, watches, streams to nodes."""

from __future__ import annotations

import socket
from dataclasses import dataclass

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """What the server needs to know. Paths are of PEM files.

    *sockets* listen already, so that who holds them open loses no connection attempt over a restart.
    *token_file* has lines of ``token,user,uid,"group1,group2"``.
    """

    sockets: tuple[socket.socket, ...]
    advertise_address: str
    advertise_port: int
    store_path: str
    tls_cert: str
    tls_key: str
    client_ca: str
    service_account_key: str
    kubelet_client_cert: str
    kubelet_client_key: str
    kubelet_ca: str
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    token_file: str | None = None
    service_cidrs: tuple[str, ...] = ("10.96.0.0/12",)
    node_port_range: tuple[int, int] = (30000, 32767)


async def run(options: Options) -> None:
    """Serve for ever; cancelling ends it cleanly. Raises OSError, ValueError if it cannot start."""
    from .server import serve

    await serve(options)
