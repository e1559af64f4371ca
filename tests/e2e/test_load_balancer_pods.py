"""The load balancer as the manifests in deploy/ run it: Pods of an image built here, with those rights."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import manifests
from balancer import NODES, resource
from lan import Asking, LanMachine, lost
from local_cluster import LocalCluster, Namespace, Object, until
from router import ROUTER, routed, session

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SYSTEM = "metallb-system"
ADDRESS = "192.168.1.251"
PORT = 8080
SIGNED = "of-both"  # the key of TCP's signatures
CONFIG = (ROOT / "examples/tutorial/metallb-config.yaml").read_text()
RESOURCES = (ROOT / "examples/tutorial/metallb-pool.yaml").read_text()
EIP = (ROOT / "examples/tutorial/openelb-eip.yaml").read_text()
OPENELB = {
    "lb.kubesphere.io/v1alpha1": "openelb",
    "protocol.openelb.kubesphere.io/v1alpha1": "layer2",
    "eip.openelb.kubesphere.io/v1alpha2": "eip-pool",
}


@pytest.fixture(scope="module")
def cluster(buoy_home: Path) -> Iterator[LocalCluster]:
    options = ("--stand-in-images", "--no-uplink", "--load-balancer", "none")
    cluster = LocalCluster("lb-pods", buoy_home, options=options)
    try:
        cluster.up()
        cluster.buoy("image build")
        cluster.kubectl("apply", "-f", DEPLOY / "namespace.yaml")
        for _ in range(2):  # the second time finds nothing to change, or to complain of
            applied = cluster.kubectl("apply", "-f", DEPLOY / "metallb.yaml", "-f", DEPLOY / "openelb.yaml")
        assert set(re.findall(r" (\w+)$", applied.stdout, re.M)) == {"unchanged"}
        for workload in ("deployment/controller", "daemonset/speaker"):
            Namespace(cluster, SYSTEM).rolled_out(workload)
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def system(cluster: LocalCluster) -> Namespace:
    return Namespace(cluster, SYSTEM)


@pytest.fixture(scope="module")
def web(cluster: LocalCluster) -> Iterator[Namespace]:
    """A Pod on each node, behind the Service web."""
    with cluster.namespace() as namespace:
        for node in ("node-1", "node-2", "node-3"):
            spec = manifests.pod_spec(manifests.server_container(), nodeName=node)
            namespace.apply(manifests.pod(f"web-{node[-1]}", spec, labels={"app": "web"}))
        namespace.apply(manifests.service("web", type="LoadBalancer"))
        namespace.until_endpoints("web", 3)
        yield namespace


@pytest.fixture(scope="module")
def machine(cluster: LocalCluster) -> Iterator[LanMachine]:
    with LanMachine(cluster, "client") as machine:
        yield machine


@pytest.fixture
def configured(system: Namespace, web: Namespace, machine: LanMachine) -> Iterator[None]:
    """The seed's ConfigMap is there, and web answers."""
    system.kubectl("apply", "-f", "-", input=CONFIG)
    gets(web, "web", ADDRESS)
    answers(machine)
    yield
    system.kubectl("delete", "-f", "-", input=CONFIG)


def gets(namespace: Namespace, service: str, address: str) -> None:
    def given() -> bool:
        status = namespace.get("service", service)["status"]
        return [each["ip"] for each in status["loadBalancer"].get("ingress") or ()] == [address]

    until(given, what=f"{service} has {address}", every=0.2)


def answers(machine: LanMachine, address: str = ADDRESS) -> None:
    url = f"http://{address}:{PORT}"
    until(lambda: machine.run("curl", "-s", "-m", "2", url, check=False), what=f"{address} answers")


def speakers(system: Namespace) -> list[Object]:
    return system.list("pods", "component=speaker")


def test_what_runs(system: Namespace, configured: None) -> None:
    pods = system.list("pods")
    assert [pod["metadata"]["labels"]["component"] for pod in pods] == ["controller", *["speaker"] * 3]
    assert {pod["spec"]["nodeName"] for pod in speakers(system)} == {"node-1", "node-2", "node-3"}
    for pod in pods:
        name = pod["metadata"]["name"]
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
        # Whatever has been forbidden it, it has complained of.
        said = system.kubectl("logs", name).stdout
        assert "following" in said
        assert "forbidden" not in said
        written = system.exec(name, "touch", "/written", check=False)
        assert "Read-only file system" in written.stderr
    controller = pods[0]["metadata"]["name"]
    assert system.exec(controller, "id", "-u").stdout == "65534\n"
    # The image is for the other components, too.
    system.exec(controller, "python3", "-c", "import buoy.dns.process, buoy.proxy.process")


def test_the_speakers_key_is_made_once(system: Namespace) -> None:
    def key() -> str:
        return str(system.get("secret", "memberlist")["data"]["secretkey"])

    first = key()
    assert len(base64.b64decode(base64.b64decode(first))) >= 32
    system.kubectl("rollout", "restart", "deployment/controller")
    system.rolled_out("deployment/controller")
    assert key() == first


@pytest.mark.parametrize(
    ("good", "mistake", "fault", "about", "annotations", "address"),
    [
        (
            CONFIG,
            ("251-192.168.1.253", "253-192.168.1.251"),
            "ConfigMap config: address-pools[0].addresses[0]",
            ("configmap", "config"),
            {},
            ADDRESS,
        ),
        (
            RESOURCES,
            ("251-192.168.1.253", "253-192.168.1.251"),
            "IPAddressPool default: spec.addresses[0]",
            ("ipaddresspool", "default"),
            {},
            ADDRESS,
        ),
        (
            EIP,
            ("protocol: layer2\n  interface: eth0", "protocol: layer2"),
            "Eip eip-pool: spec.interface",
            ("eip", "eip-pool"),
            OPENELB,
            "192.168.1.241",
        ),
    ],
    ids=["ConfigMap", "MetalLB", "OpenELB"],
)
def test_a_mistake_is_named_and_the_last_good_configuration_goes_on_serving(
    system: Namespace,
    web: Namespace,
    machine: LanMachine,
    good: str,
    mistake: tuple[str, str],
    fault: str,
    about: tuple[str, str],
    annotations: dict[str, str],
    address: str,
) -> None:
    def states() -> dict[str, tuple[str, bool]]:
        return {
            state["metadata"]["name"]: (
                state["status"]["result"],
                fault in state["status"].get("errorSummary", ""),
            )
            for state in system.list("configurationstates")
            if "status" in state
        }

    def all_say(result: str, at_fault: bool) -> bool:
        names = ("controller", "speaker-node-1", "speaker-node-2", "speaker-node-3")
        return states() == dict.fromkeys(names, (result, at_fault))

    system.kubectl("apply", "-f", "-", input=good)
    asking = manifests.service("asking", type="LoadBalancer", selector={"app": "web"})
    asking["metadata"]["annotations"] = annotations
    web.kubectl("delete", "service", "web", "--ignore-not-found")
    web.apply(asking)
    try:
        gets(web, "asking", address)
        answers(machine, address)
        until(lambda: all_say("Valid", False), what="all can use the configuration", every=0.3)
        bad = good.replace(*mistake)
        assert bad != good
        if about[0] == "eip":
            system.kubectl("replace", "-f", "-", input=bad)
        else:
            system.kubectl("apply", "-f", "-", input=bad)
        until(lambda: all_say("Invalid", True), what=f"all name {fault}", every=0.3)
        field = fault.partition(": ")[2]
        described = until(lambda: _warning(system, *about), what="an event on it", every=0.3)
        assert field in described
        if about[0] == "eip":
            until(lambda: system.get(*about)["status"]["ready"] is False, what="the Eip is not ready")
        gets(web, "asking", address)
        answers(machine, address)
    finally:
        system.kubectl("delete", "-f", "-", input=good, check=False)
        web.kubectl("delete", "service", "asking")
        web.apply(manifests.service("web", type="LoadBalancer"))


def _warning(system: Namespace, kind: str, name: str) -> str:
    text = system.kubectl("describe", kind, name).stdout
    return next((line for line in text.splitlines() if "InvalidConfiguration" in line), "")


def test_a_rolling_update_loses_no_request(system: Namespace, machine: LanMachine, configured: None) -> None:
    before = {pod["metadata"]["uid"] for pod in speakers(system)}
    with Asking(machine, ADDRESS, PORT) as asking:
        began = time.monotonic()
        until(lambda: asking.answered_since(began), what="answers")
        system.kubectl("rollout", "restart", "daemonset/speaker", "deployment/controller")
        system.rolled_out("daemonset/speaker")
        system.rolled_out("deployment/controller")
        ended = time.monotonic()
        until(lambda: asking.answered_since(ended), what="answers afterwards")
    assert not before & {pod["metadata"]["uid"] for pod in speakers(system)}
    assert lost(asking.requests, began, ended) == 0


def test_a_speaker_that_crashes_starts_again(
    system: Namespace, cluster: LocalCluster, machine: LanMachine, configured: None
) -> None:
    announcer = until(lambda: _announcer(system), what="a node that announces", every=0.2)
    pod = next(pod for pod in speakers(system) if pod["spec"]["nodeName"] == announcer)
    name = pod["metadata"]["name"]
    first_process = "^/usr/bin/python3 /usr/bin/buoy run loadbalancer-speaker"
    pid = cluster.on_node(announcer, "pgrep", "-f", first_process).stdout.strip()
    cluster.on_node(announcer, "kill", "-9", pid)

    def again() -> bool:
        status = system.get("pod", name)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] == 1 and status["ready"])

    until(again, what="the container runs again", every=0.2)
    answers(machine)
    until(lambda: _announcer(system) == announcer, what="it announces again", every=0.2)


def test_routes_are_announced_by_frr_of_the_image(
    system: Namespace, cluster: LocalCluster, web: Namespace, tmp_path: Path
) -> None:
    peer = resource(
        "BGPPeer",
        "router",
        myASN=64512,
        peerASN=64513,
        peerAddress=ROUTER,
        password=SIGNED,
        bfdProfile="plain",
    )
    configuration = [
        resource("IPAddressPool", "routed", addresses=["203.0.113.0/28"]),
        resource("BGPAdvertisement", "routed", ipAddressPools=["routed"]),
        resource("BFDProfile", "plain"),
        peer,
    ]
    sessions = {
        node.replace("-", ""): session(address, f'password "{SIGNED}"; bfd on;')
        for node, address in NODES.items()
    }
    with routed(cluster, tmp_path, sessions) as world:
        system.apply(*configuration)
        try:
            gets(web, "web", "203.0.113.0")
            until(
                lambda: world.bird.routes() == {"203.0.113.0/32": set(sessions)},
                within=60,
                what="routes by way of each node",
                every=0.2,
            )
            assert world.client.run("curl", "-s", "-m", "5", f"http://203.0.113.0:{PORT}").startswith("web-")
            # Let out in an orderly way, a speaker withdraws its routes at once.
            pod = speakers(system)[0]
            gone = pod["spec"]["nodeName"].replace("-", "")
            system.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
            left = set(sessions) - {gone}
            until(lambda: world.bird.routes() == {"203.0.113.0/32": left}, what=f"{gone} has withdrawn")
        finally:
            for each in configuration:
                system.kubectl("delete", each["kind"], each["metadata"]["name"])
    system.rolled_out("daemonset/speaker")


def _announcer(system: Namespace) -> str:
    text = system.kubectl("get", "servicel2statuses", "-o", "json").stdout
    return next((item["status"]["node"] for item in json.loads(text)["items"] if "status" in item), "")
