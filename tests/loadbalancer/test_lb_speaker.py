"""Speakers as they run, on three nodes of an API server: from Services to the LAN and to a router."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import urllib.error
import urllib.request
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from bird import Bird
from buoy.api.selectors import from_labels
from buoy.client import Client
from buoy.loadbalancer import SpeakerOptions
from buoy.loadbalancer.election import rank
from buoy.loadbalancer.model import BgpAdvertisement, Config, Layer2Advertisement, Peer, Pool, Range
from buoy.loadbalancer.speaker import statuses
from buoy.loadbalancer.speaker.process import Speaker
from client.small_api_server import SmallApiServer
from eventual import eventually
from neighbours import arping, mac
from topology import World

pytestmark = pytest.mark.kernel

VIP, OTHER = "192.168.1.240", "192.168.1.241"
ALL = ("node-1", "node-2", "node-3")
ROUTER = "192.168.1.200"


def config(*, bgp=False, **layer2):
    pool = Pool("first", ipv4=(Range(int(ip_address(VIP)), int(ip_address("192.168.1.250"))),))
    return Config(
        pools=(pool,),
        layer2=(Layer2Advertisement("plain", frozenset({"first"}), **layer2),),
        bgp=(BgpAdvertisement("plain", frozenset({"first"}), peers=frozenset({"router"})),) if bgp else (),
        peers=(Peer("router", 64512, 64513, address=ROUTER, connect_time=1),) if bgp else (),
    )


class Configs:
    """Configurations that the test makes."""

    problems = ()

    def __init__(self, first):
        self.current = first
        self._tell = []

    async def run(self, changed):
        changed(self.current)
        self._tell.append((asyncio.get_running_loop(), changed))
        await asyncio.get_running_loop().create_future()

    def set(self, new):
        self.current = new
        for loop, changed in self._tell:
            loop.call_soon_threadsafe(changed, new)


def service(name="web", address=VIP, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "LoadBalancer", **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    }


def slice_of(name="web", nodes=ALL, ready=True):
    return {
        "metadata": {
            "namespace": "default",
            "name": f"{name}-1",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [f"10.244.0.{number}"], "nodeName": node, "conditions": {"ready": ready}}
            for number, node in enumerate(nodes)
        ],
    }


class Cluster:
    """An API server on the LAN's outside machine, and a speaker on each node."""

    def __init__(self, world, folder, configs):
        self.world = world
        self.folder = folder
        self.configs = configs
        self.kubeconfig = folder / "kubeconfig"
        self.tasks = {}

    async def start(self, *, key=True):
        async def serve():
            server = SmallApiServer(host=ROUTER)
            await server.start()
            return server

        self.server = await self.world.outside.do(serve())
        context = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": self.server.url}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(context))
        for node in self.world.nodes:
            addresses = [{"type": "InternalIP", "address": node.address}]
            await self.put("nodes", {"metadata": {"name": node.name}, "status": {"addresses": addresses}})
        if key:
            await self.make_key()
        for plural in ("servicel2statuses", "servicebgpstatuses"):
            conditions = [{"type": "Established", "status": "True"}]
            await self.put(
                "customresourcedefinitions",
                {"metadata": {"name": f"{plural}.metallb.io"}, "status": {"conditions": conditions}},
            )
        await self.put("services", service())
        await self.put("endpointslices", slice_of())
        for node in self.world.nodes:
            await self.start_speaker(node)

    async def make_key(self):
        secret = {"secretkey": base64.b64encode(os.urandom(128)).decode()}
        await self.put(
            "secrets", {"metadata": {"namespace": "metallb-system", "name": "memberlist"}, "data": secret}
        )

    async def start_speaker(self, node):
        options = SpeakerOptions(
            str(self.kubeconfig),
            node.name,
            folder=str(self.folder / node.name),
            metrics_bind="127.0.0.1:7472",
        )

        async def run():
            async with Client.from_kubeconfig(options.kubeconfig) as client:
                await Speaker(options, client, self.configs).run()

        async def start():
            return asyncio.create_task(run())

        self.tasks[node.name] = await node.do(start())

    async def stop_speaker(self, node):
        task = self.tasks.pop(node.name)

        async def stop():
            task.cancel()
            await asyncio.wait([task])

        await node.do(stop())

    async def put(self, plural, obj):
        await self.world.outside.do(self.server.put(plural, obj))

    def objects(self, plural):
        return list(self.server.objects.get(plural, {}).values())

    async def close(self):
        await asyncio.gather(
            *(self.stop_speaker(node) for node in self.world.nodes if node.name in self.tasks)
        )
        await self.world.outside.do(self.server.stop())


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="buoy-speaker-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def cluster(folder):
    with World(nodes=3) as world:
        cluster = Cluster(world, folder, Configs(config()))
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.close()


def answers(cluster, address=VIP):
    by_mac = {mac(node): node.name for node in cluster.world.nodes}
    return [by_mac[one] for one in arping(cluster.world.outside, address)]


def ask(node, path):
    """What the node's speaker serves at *path*."""

    def get():
        return urllib.request.urlopen(f"http://127.0.0.1:7472/{path}", timeout=5).read().decode()

    return node.call(get)


def winner(nodes=ALL, address=VIP):
    return rank(dict.fromkeys(nodes, 0), address)[0]


def events(cluster, reason):
    return [event["message"] for event in cluster.objects("events") if event["reason"] == reason]


def l2_statuses(cluster):
    return [status.get("status") for status in cluster.objects("servicel2statuses")]


async def test_layer2(cluster):
    """From a Service to an answer, with event, status and metrics; moved by endpoints, labels and drains."""
    first, second, third = rank(dict.fromkeys(ALL, 0), VIP)
    nodes = {node.name: node for node in cluster.world.nodes}
    await eventually(lambda: answers(cluster) == [first])
    assert f'announcing from node "{first}" with protocol "layer2"' in events(cluster, "nodeAssigned")
    expected = {"node": first, "serviceName": "web", "serviceNamespace": "default"}
    await eventually(lambda: l2_statuses(cluster) == [expected])

    text = ask(nodes[first], "metrics")
    labels = f'ip="{VIP}",node="{first}",protocol="layer2",service="default/web"'
    assert f"metallb_speaker_announced{{{labels}}} 1.0" in text
    assert "metallb_k8s_client_config_loaded_bool 1.0" in text
    requests = f'metallb_layer2_requests_received{{ip="{VIP}"}}'
    await eventually(lambda: requests in ask(nodes[first], "metrics"))

    # no endpoint that serves: nobody answers
    await cluster.put("endpointslices", slice_of(ready=False))
    await eventually(lambda: answers(cluster) == [])
    await eventually(lambda: l2_statuses(cluster) == [])
    # a Local policy: only where one is
    await cluster.put("services", service(externalTrafficPolicy="Local"))
    await cluster.put("endpointslices", slice_of(nodes=[third]))
    await eventually(lambda: answers(cluster) == [third])
    await cluster.put("services", service())
    await eventually(lambda: answers(cluster) == [first])

    # a node that is excluded, and one that leaves
    label = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    addresses = [{"type": "InternalIP", "address": nodes[first].address}]
    await cluster.put(
        "nodes", {"metadata": {"name": first, "labels": label}, "status": {"addresses": addresses}}
    )
    await eventually(lambda: answers(cluster) == [second])
    await cluster.stop_speaker(nodes[second])
    await eventually(lambda: answers(cluster) == [third])
    await eventually(lambda: [status["node"] for status in l2_statuses(cluster)] == [third])

    # the API server is away, and the other one comes back and goes
    await cluster.start_speaker(nodes[second])
    await eventually(lambda: answers(cluster) == [second])
    await cluster.world.outside.do(cluster.server.stop())
    await cluster.stop_speaker(nodes[second])
    await eventually(lambda: answers(cluster) == [third])


async def test_interfaces_classes_and_sharing(cluster):
    """What keeps a Service from being announced is told to it; one of another class is left alone."""
    await eventually(lambda: answers(cluster) == [winner()])
    await cluster.put("services", service("other", OTHER, loadBalancerClass="example.com/else"))
    await cluster.put("endpointslices", slice_of("other"))
    cluster.configs.set(config(interfaces=("eth9",)))
    await eventually(lambda: answers(cluster) == [])
    await cluster.put("services", service("third", "192.168.1.242"))
    await cluster.put("endpointslices", slice_of("third"))
    await eventually(lambda: events(cluster, "announceFailed"))
    cluster.configs.set(config())
    await eventually(lambda: answers(cluster) == [winner()])
    assert answers(cluster, OTHER) == []
    cluster.configs.set(config(service_selectors=(from_labels({"app": "web"}),)))
    labelled = service()
    labelled["metadata"]["labels"] = {"app": "web"}
    await cluster.put("services", labelled)
    await eventually(lambda: answers(cluster) == [winner()])
    labelled["metadata"]["annotations"] = {"metallb.universe.tf/allow-shared-ip": "key"}
    await cluster.put("services", labelled)
    await eventually(lambda: answers(cluster) == [])
    await eventually(lambda: any("allow-shared-ip" in told for told in events(cluster, "announceFailed")))
    cluster.configs.set(config())
    await eventually(lambda: answers(cluster) == [winner()])


async def test_bgp(cluster):
    """Every node announces, one with a Local policy only where an endpoint is."""
    text = "local as 64513; neighbor {} as 64512; connect delay time 1; connect retry time 1;"
    text += " error wait time 1,2; ipv4 {{ import all; export none; }};"
    blocks = {f"n{node.number}": text.format(node.address) for node in cluster.world.nodes}
    cluster.configs.set(config(bgp=True))
    with Bird(cluster.world.outside, ROUTER, cluster.folder, blocks) as bird:
        await eventually(lambda: bird.routes() == {f"{VIP}/32": {"n1", "n2", "n3"}})
        told = [status["status"] for status in cluster.objects("servicebgpstatuses")]
        assert sorted(status["node"] for status in told) == list(ALL)
        assert all(status["peers"] == ["router"] for status in told)
        await cluster.put("services", service(externalTrafficPolicy="Local"))
        await cluster.put("endpointslices", slice_of(nodes=["node-2"]))
        await eventually(lambda: bird.routes() == {f"{VIP}/32": {"n2"}})
        await eventually(lambda: len(cluster.objects("servicebgpstatuses")) == 1)

        text = ask(cluster.world.nodes[1], "metrics")
        assert f'metallb_bgp_session_up{{peer="{ROUTER}",vrf="default"}} 1.0' in text
        assert f'metallb_bgp_announced_prefixes_total{{peer="{ROUTER}",vrf="default"}} 1.0' in text
        await cluster.put("endpointslices", slice_of(ready=False))
        await eventually(lambda: not bird.routes())


async def test_a_speaker_is_ready_when_it_takes_part(folder):
    def says_ok(path):
        try:
            return ask(node, path) == "ok"
        except urllib.error.URLError:  # refused, or with the status 503
            return False

    with World(nodes=1) as world:
        cluster = Cluster(world, folder, Configs(config()))
        node = world.nodes[0]
        try:
            await cluster.start(key=False)
            await eventually(lambda: says_ok("healthz"))
            assert not says_ok("readyz")
            await cluster.make_key()
            await eventually(lambda: says_ok("readyz"))
            await eventually(lambda: answers(cluster))
        finally:
            await cluster.close()


def status_of(name, node):
    labels = {"metallb.io/node": node, "metallb.io/service-name": "web"}
    labels["metallb.io/service-namespace"] = "default"
    status = {"node": node, "serviceName": "web", "serviceNamespace": "default"}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


MINE, THEIRS, LOST = status_of("1", "a"), status_of("2", "b"), status_of("3", "c")
LABELS = MINE["metadata"]["labels"]
WITH_PEERS = {**MINE, "status": {**MINE["status"], "peers": ["r"]}}


@pytest.mark.parametrize(
    ("wanted", "existing", "exclusive", "expected"),
    [
        ({}, [], True, statuses.Changes(create={"metadata": {"labels": LABELS}, "status": MINE["status"]})),
        ({}, [MINE], True, statuses.Changes()),
        ({"peers": ["r"]}, [MINE], False, statuses.Changes(update=WITH_PEERS)),
        ({}, [MINE, THEIRS], True, statuses.Changes(delete=(THEIRS,))),
        ({}, [MINE, THEIRS], False, statuses.Changes()),
        (None, [MINE, THEIRS], True, statuses.Changes(delete=(MINE,))),
        (None, [THEIRS, LOST], False, statuses.Changes(delete=(LOST,))),
    ],
)
def test_statuses(wanted, existing, exclusive, expected):
    found = statuses.changes("a", "default/web", wanted, existing, frozenset("ab"), exclusive=exclusive)
    assert found == expected
