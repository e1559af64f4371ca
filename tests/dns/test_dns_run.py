"""The whole server against a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from dns_world import Upstream, answers, endpoint_slice, fresh_address, service

from apiserver.api_server import write_kubeconfig
from buoy.dns import Options, run
from controllers.api_process import ApiProcess, api_process
from eventual import eventually

CORE = "/api/v1/namespaces"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
CONFIG = f"{CORE}/kube-system/configmaps"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiProcess]:
    async with api_process(tmp_path) as process:
        yield process


class Dns:
    def __init__(self, options: Options) -> None:
        self.options = options

    async def ask(self, name: str, kind: str = "A") -> dns.message.Message:
        [address] = self.options.addresses
        query = dns.message.make_query(name, kind, use_edns=0)
        return await dns.asyncquery.udp(query, address.host, port=address.port, timeout=10)

    async def texts(self, name: str, kind: str = "A") -> list[str]:
        return answers(await self.ask(name, kind))

    async def becomes(self, expected: list[str], name: str, kind: str = "A") -> None:
        async def holds() -> bool:
            return await self.texts(name, kind) == expected

        await eventually(holds, within=10, what=f"{name} {kind} is {expected}")

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://{self.options.http_bind[0]}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()


@contextlib.asynccontextmanager
async def running(api: ApiProcess, **changes: Any) -> AsyncIterator[Dns]:
    host = fresh_address()
    with socket.socket() as sock:
        sock.bind((host, 0))
        port = sock.getsockname()[1]
    settings: dict[str, Any] = {
        "kubeconfig": str(write_kubeconfig(api.server, "system:serviceaccount:kube-system:kube-dns")),
        "node_name": "node-1",
        "listen": (f"{host}:{port}",),
        "http_bind": (f"{host}:{port + 1 if port < 65535 else port - 1}",),
        "resolv_conf": "",
    }
    options = Options(**{**settings, **changes})
    task = asyncio.create_task(run(options))
    try:
        yield Dns(options)
    finally:
        assert not task.done(), task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def create(api: ApiProcess, path: str, obj: Any) -> Any:
    reply = await api.server.post(path, obj)
    assert reply.status == 201, reply.message
    return reply.json


def config(**data: str) -> Any:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "buoy-dns"}, "data": data}


async def test_from_the_api_to_the_answer(api: ApiProcess) -> None:
    async with running(api) as ours:
        await ours.becomes(["A 10.96.0.1"], "kubernetes.default.svc.cluster.local")
        assert await ours.get("/ready") == (200, "OK")

        web = service("web", ports=[("http", "TCP", 80)], type="ClusterIP", selector={"app": "web"})
        ip = (await create(api, f"{CORE}/default/services", web))["spec"]["clusterIP"]
        await ours.becomes([f"A {ip}"], "web.default.svc.cluster.local")
        assert await ours.texts("_http._tcp.web.default.svc.cluster.local", "SRV")

        db = service("db", ports=[("sql", "TCP", 5432)], clusterIP="None")
        await create(api, f"{CORE}/default/services", db)
        piece = endpoint_slice("db-1", "db", ("10.244.1.10", "db-0"), ports=[("sql", "TCP", 5432)])
        await create(api, SLICES, piece)
        await ours.becomes(["A 10.244.1.10"], "db-0.db.default.svc.cluster.local")
        piece["endpoints"][0]["conditions"]["ready"] = False
        await api.server.patch(f"{SLICES}/db-1", {"endpoints": piece["endpoints"]})
        await ours.becomes([], "db.default.svc.cluster.local")
        assert (await ours.ask("db.default.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN

        await create(api, CORE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}})
        await ours.becomes(["A 10.244.3.4"], "10-244-3-4.fresh.pod.cluster.local")

        change = {
            "spec": {
                "type": "ExternalName",
                "externalName": "example.com",
                "clusterIP": None,
                "clusterIPs": None,
            }
        }
        reply = await api.server.patch(f"{CORE}/default/services/web", change)
        assert reply.status == 200, reply.message
        await ours.becomes(["CNAME example.com."], "web.default.svc.cluster.local")

        await api.server.delete(f"{CORE}/default/services/web")
        await ours.becomes([], "web.default.svc.cluster.local")
        status, text = await ours.get("/metrics")
        assert status == 200
        assert 'buoy_dns_responses_total{proto="udp",rcode="NXDOMAIN",source="cluster",type="A"}' in text
        assert "buoy_dns_zone_names " in text


async def test_before_and_without_the_api(api: ApiProcess) -> None:
    """Nothing is said of the cluster before all is known; after that, all goes on without the API."""
    async with Upstream({"www.example.com. A": (60, ["192.0.2.1"])}) as up:
        await create(api, CONFIG, config(upstreamNameservers=str(up.address)))
        await api.kill()
        async with running(api) as ours:

            async def answering() -> bool:
                with contextlib.suppress(OSError):
                    return (await ours.get("/health")) == (200, "OK")
                return False

            await eventually(answering, within=5)
            message = await ours.ask("kubernetes.default.svc.cluster.local")
            assert message.rcode() == dns.rcode.SERVFAIL
            assert (await ours.get("/ready"))[0] == 503
            await api.start()
            await ours.becomes(["A 10.96.0.1"], "kubernetes.default.svc.cluster.local")
            await ours.becomes(["A 192.0.2.1"], "www.example.com")
            await api.kill()
            for _ in range(3):
                assert await ours.texts("kubernetes.default.svc.cluster.local") == ["A 10.96.0.1"]
                assert await ours.texts("www.example.com") == ["A 192.0.2.1"]
            await api.start()
            db = service("late", ports=[("http", "TCP", 80)], clusterIP="10.96.0.77")
            await create(api, f"{CORE}/default/services", db)
            await ours.becomes(["A 10.96.0.77"], "late.default.svc.cluster.local")


async def test_configuration_is_read_anew(api: ApiProcess) -> None:
    async with Upstream({"www.example.com. A": (60, ["192.0.2.1"])}) as up, running(api) as ours:
        await ours.becomes(["A 10.96.0.1"], "kubernetes.default.svc.cluster.local")
        assert (await ours.ask("www.example.com")).rcode() == dns.rcode.SERVFAIL
        await create(api, CONFIG, config(upstreamNameservers=str(up.address), ttl="17"))
        await ours.becomes(["A 192.0.2.1"], "www.example.com")
        message = await ours.ask("kubernetes.default.svc.cluster.local")
        assert message.answer[0].ttl == 17

        data = {"hosts": "192.0.2.9 www.example.com", "pods": "disabled"}
        await api.server.patch(f"{CONFIG}/buoy-dns", {"data": data})
        await ours.becomes(["A 192.0.2.9"], "www.example.com")
        assert (await ours.ask("1-2-3-4.default.pod.cluster.local")).rcode() == dns.rcode.NXDOMAIN

        await api.server.patch(f"{CONFIG}/buoy-dns", {"data": {"ttl": "soon", "hosts": None}})

        async def reported() -> Any:
            events = (await api.server.get(f"{CORE}/kube-system/events")).json["items"]
            return [one for one in events if one["reason"] == "InvalidConfiguration"]

        [event] = await eventually(reported, within=10)
        assert event["involvedObject"]["kind"] == "ConfigMap"
        assert event["source"] == {"component": "buoy-dns", "host": "node-1"}
        assert event["message"] == (
            "Not used, the configuration before it goes on: "
            "data.ttl: must be a whole number from 0 to 3600, is 'soon'"
        )
        assert await ours.texts("www.example.com") == ["A 192.0.2.9"]
        message = await ours.ask("kubernetes.default.svc.cluster.local")
        assert message.answer[0].ttl == 17

        await api.server.delete(f"{CONFIG}/buoy-dns")
        await ours.becomes([], "www.example.com")
        await ours.becomes(["A 1.2.3.4"], "1-2-3-4.default.pod.cluster.local")


async def test_resolv_conf_is_followed(api: ApiProcess) -> None:
    path = api.server.folder / "resolv.conf"
    async with running(api, resolv_conf=str(path)) as ours:
        message = await ours.ask("www.example.com")
        assert "EDE 22" in message.options[0].to_text()
        path.write_text(f"nameserver {fresh_address()}\n")

        async def asked() -> bool:  # nobody is there, but that is another error
            return "EDE 23" in (await ours.ask("www.example.com")).options[0].to_text()

        await eventually(asked, within=10)


async def test_it_never_asks_itself(api: ApiProcess) -> None:
    async with running(api) as ours:
        [address] = ours.options.addresses
        await create(api, CONFIG, config(upstreamNameservers=str(address), ttl="17"))

        async def configured() -> bool:
            message = await ours.ask("kubernetes.default.svc.cluster.local")
            return bool(message.answer) and message.answer[0].ttl == 17

        await eventually(configured, within=10)
        message = await ours.ask("www.example.com")
        assert message.rcode() == dns.rcode.SERVFAIL
        assert "EDE 22" in message.options[0].to_text()  # nobody to ask
