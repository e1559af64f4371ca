"""Runs one component for the tests, by ``kubelet OPTIONS`` or ``apiserver OPTIONS FD PID``.

OPTIONS is a JSON file. The API server is given a listening socket and the process in whose network it works.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys

_CLONE_NEWNET = 0x40000000


async def _until_told(component: object) -> None:
    task = asyncio.ensure_future(component)  # type: ignore[arg-type]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def main() -> None:
    logging.basicConfig(
        level=os.environ.get("LEVEL", "INFO"), format="%(asctime)s.%(msecs)03d %(name)s: %(message)s"
    )
    kind, path = sys.argv[1:3]
    with open(path) as file:
        described = json.load(file)
    if kind == "kubelet":
        from buoy import kubelet

        described["node_ips"] = tuple(described["node_ips"])
        component = kubelet.run(kubelet.Options(**described))
    else:
        from buoy import apiserver

        listener = socket.socket(fileno=int(sys.argv[3]))
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{sys.argv[4]}/ns/net") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        near = socket.create_server((described["advertise_address"], described["advertise_port"]))
        component = apiserver.run(apiserver.Options(sockets=(listener, near), **described))
    asyncio.run(_until_told(component))


if __name__ == "__main__":
    main()
