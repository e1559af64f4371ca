"""An API server in a process of its own, that can be killed and started again on the same address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from apiserver.api_server import Authority, Running, write_kubeconfig
from eventual import eventually

_MAIN = """
import asyncio, json, socket, sys
from buoy.apiserver import Options, run
settings = json.loads(sys.argv[1])
asyncio.run(run(Options(sockets=(socket.socket(fileno=int(sys.argv[2])),), **settings)))
"""


class ApiProcess:
    """The socket stays open over a restart, as a cluster's does."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        certificate, key = authority.issue("localhost")
        kubelet_certificate, kubelet_key = authority.issue("kube-apiserver-kubelet-client", "system:masters")
        _, account_key = authority.issue("service-accounts")
        self._settings: dict[str, Any] = {
            "advertise_address": "192.168.1.10",
            "advertise_port": 6443,
            "store_path": str(folder / "store.sqlite"),
            "tls_cert": certificate,
            "tls_key": key,
            "client_ca": str(authority.certificate),
            "service_account_key": account_key,
            "kubelet_client_cert": kubelet_certificate,
            "kubelet_client_key": kubelet_key,
            "kubelet_ca": str(authority.certificate),
        }
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.log = folder / "apiserver.log"
        port = self.socket.getsockname()[1]
        self.server = Running(folder, port, authority, None)  # type: ignore[arg-type]
        self.server.kubeconfig = str(write_kubeconfig(self.server, "admin", "system:masters"))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        number = self.socket.fileno()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _MAIN,
                json.dumps(self._settings),
                str(number),
                pass_fds=(number,),
                stdout=log,
                stderr=log,
            )

        async def ready() -> bool:
            assert self._process is not None
            assert self._process.returncode is None, self.log.read_text()
            return (await self.server.get("/readyz")).status == 200

        await eventually(ready)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


@contextlib.asynccontextmanager
async def api_process(folder: Path) -> AsyncIterator[ApiProcess]:
    process = ApiProcess(folder)
    try:
        await process.start()
        yield process
    finally:
        await process.kill()
        await process.server.close()
        process.socket.close()
