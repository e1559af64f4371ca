"""Sections 1 and 1.1 of the tutorial: a Deployment of three Pods behind a ClusterIP Service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import LocalCluster, until

pytestmark = pytest.mark.e2e

TUTORIAL = Path(__file__).parents[2] / "examples" / "tutorial"
DEPLOYMENT = TUTORIAL / "exampledeployforservice.yml"
SERVICE = TUTORIAL / "exampleclusteripservice.yml"

_SUFFIX = "[bcdfghjklmnpqrstvwxz2456789]"
POD = rf"exampledeployforservice-{_SUFFIX}{{6,10}}-{_SUFFIX}{{5}}"
AGE = r"\d+[smh](\d+s)?"


def cells(table: str) -> list[list[str]]:
    """The lines of a table, split where two blanks or more stand."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


@pytest.fixture(scope="module")
def applied(cluster: LocalCluster) -> Iterator[dict[str, str]]:
    """What kubectl said when the two manifests were applied, unchanged, in the default namespace."""
    said = {path.name: cluster.kubectl("apply", "-f", path).stdout for path in (DEPLOYMENT, SERVICE)}
    cluster.kubectl("rollout", "status", "deployment/exampledeployforservice", "--timeout=60s")
    until(lambda: cluster.on_node("node-1", "curl", "-sf", url(cluster), check=False).returncode == 0)
    yield said
    cluster.kubectl("delete", "-f", SERVICE, "-f", DEPLOYMENT, "--grace-period=1", "--wait=true")


def url(cluster: LocalCluster) -> str:
    template = "jsonpath={.spec.clusterIP}"
    address = cluster.kubectl("get", "service", "exampleclusteripservice", "-o", template).stdout
    return f"http://{address}:8080"


def pods(cluster: LocalCluster) -> dict[str, str]:
    """The address of each Pod of the tutorial."""
    template = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{'\\n'}{end}"
    lines = cluster.kubectl("get", "pods", "-l", "example=exampleforservice", "-o", template).stdout
    return dict(line.split() for line in lines.splitlines())  # type: ignore[arg-type, misc]


def test_apply_says_created_and_then_unchanged(cluster: LocalCluster, applied: dict[str, str]) -> None:
    assert applied == {
        "exampledeployforservice.yml": "deployment.apps/exampledeployforservice created\n",
        "exampleclusteripservice.yml": "service/exampleclusteripservice created\n",
    }
    again = cluster.kubectl("apply", "-f", DEPLOYMENT, "-f", SERVICE).stdout
    assert again == (
        "deployment.apps/exampledeployforservice unchanged\nservice/exampleclusteripservice unchanged\n"
    )


def test_get_pod_wide(cluster: LocalCluster, applied: dict[str, str]) -> None:
    header, *rows = cells(cluster.kubectl("get", "pod", "-o", "wide").stdout)
    assert header == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES",
    ]  # fmt: skip
    assert len(rows) == 3
    for name, ready, status, restarts, age, ip, node, *rest in rows:
        assert re.fullmatch(POD, name)
        assert (ready, status, restarts) == ("1/1", "Running", "0")
        assert re.fullmatch(AGE, age)
        assert re.fullmatch(r"10\.244\.\d+\.\d+", ip)
        assert node in ("node-1", "node-2", "node-3")
        assert rest == ["<none>", "<none>"]
    assert {row[6] for row in rows} == {"node-1", "node-2", "node-3"}, "three Pods, three nodes"


def test_a_node_reaches_every_pod_by_its_address(cluster: LocalCluster, applied: dict[str, str]) -> None:
    for name, address in pods(cluster).items():
        answer = cluster.on_node("node-1", "curl", "-sS", f"http://{address}").stdout
        assert answer == f"<p>The host is {name}</p>\n"


def test_get_service(cluster: LocalCluster, applied: dict[str, str]) -> None:
    header, ours, kubernetes = cells(cluster.kubectl("get", "service").stdout)
    assert header == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert re.fullmatch(r"10\.(9[6-9]|10\d|11[01])\.\d+\.\d+", ours[2])
    assert re.fullmatch(AGE, ours[5])
    assert ours[:2] + ours[3:5] == ["exampleclusteripservice", "ClusterIP", "<none>", "8080/TCP"]
    assert kubernetes[:5] == ["kubernetes", "ClusterIP", "10.96.0.1", "<none>", "443/TCP"]


def test_describe_service(cluster: LocalCluster, applied: dict[str, str]) -> None:
    address = url(cluster).removeprefix("http://").removesuffix(":8080")
    shown = cluster.kubectl("describe", "svc", "exampleclusteripservice").stdout
    endpoints = re.search(r"^Endpoints: +(.*)$", shown, re.M)
    assert endpoints
    assert sorted(endpoints[1].split(",")) == sorted(f"{ip}:80" for ip in pods(cluster).values())
    assert re.sub(r"^(Endpoints: +).*$", r"\1ENDPOINTS", shown, flags=re.M) == (
        "Name:                     exampleclusteripservice\n"
        "Namespace:                default\n"
        "Labels:                   <none>\n"
        "Annotations:              <none>\n"
        "Selector:                 example=exampleforservice\n"
        "Type:                     ClusterIP\n"
        "IP Family Policy:         SingleStack\n"
        "IP Families:              IPv4\n"
        f"IP:                       {address}\n"
        f"IPs:                      {address}\n"
        "Port:                     <unset>  8080/TCP\n"
        "TargetPort:               80/TCP\n"
        "Endpoints:                ENDPOINTS\n"
        "Session Affinity:         None\n"
        "Internal Traffic Policy:  Cluster\n"
        "Events:                   <none>\n"
    )


@pytest.mark.parametrize("node", ["node-1", "node-2", "node-3"])
def test_ten_curls_are_answered_by_all_three(
    cluster: LocalCluster, applied: dict[str, str], node: str
) -> None:
    wanted = {f"<p>The host is {name}</p>" for name in pods(cluster)}
    loop = f"for i in $(seq 10); do curl -sS {url(cluster)} || exit; done"
    rounds = []
    for _ in range(8):  # ten requests miss one of three Pods in 5 % of all cases; eight times ten, never
        answers = cluster.on_node(node, "bash", "-c", loop).stdout.splitlines()
        assert len(answers) == 10
        assert set(answers) <= wanted
        rounds.append(set(answers))
        if set(answers) == wanted:
            break
    assert wanted in rounds


def test_a_pod_reaches_the_service_too_and_itself_through_it(
    cluster: LocalCluster, applied: dict[str, str]
) -> None:
    name = next(iter(pods(cluster)))
    loop = f"for i in $(seq 25); do curl -sS {url(cluster)} || exit; done"
    answers = cluster.kubectl("exec", name, "--", "sh", "-c", loop).stdout.splitlines()
    assert len(answers) == 25
    assert set(answers) == {f"<p>The host is {each}</p>" for each in pods(cluster)}


def test_outside_the_cluster_neither_pods_nor_the_service_are_reached(
    cluster: LocalCluster, applied: dict[str, str]
) -> None:
    """The tutorial: Pod and Service addresses are for the machines of the cluster only."""
    for target in (url(cluster), f"http://{next(iter(pods(cluster).values()))}"):
        result = cluster.buoy("outside", "--", "curl", "-sS", "--max-time", "5", target, check=False)
        assert result.returncode == 7, f"curl: could not connect, not {result.stderr}"


def test_the_nat_table_shows_each_share(cluster: LocalCluster, applied: dict[str, str]) -> None:
    table = cluster.on_node("node-2", "iptables", "-L", "-v", "-n", "-t", "nat").stdout
    chains = {
        match[1]: match[2].splitlines()[1:]
        for match in re.finditer(r"^Chain (\S+) .*\n((?:.+\n)*)", table, re.M)
    }
    for builtin in ("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-NODEPORTS"):
        assert builtin in chains
    address = url(cluster).removeprefix("http://").removesuffix(":8080")
    comment = "/* default/exampleclusteripservice cluster IP */"
    (entry,) = [line for line in chains["KUBE-SERVICES"] if comment in line]
    assert address in entry
    assert "tcp dpt:8080" in entry
    service_chain = re.search(r"KUBE-SVC-\w+", entry)
    assert service_chain

    jumps = [line for line in chains[service_chain[0]] if "KUBE-SEP-" in line]
    shares = [re.search(r"statistic mode random probability ([\d.]+)", line) for line in jumps]
    assert [share and share[1] for share in shares] == ["0.33333333349", "0.50000000000", None]
    named = [re.search(r"/\* default/exampleclusteripservice -> (\S+) \*/", line) for line in jumps]
    endpoints = [match[1] for match in named if match]
    assert sorted(endpoints) == sorted(f"{ip}:80" for ip in pods(cluster).values())
    for line, endpoint in zip(jumps, endpoints, strict=True):
        chain = re.search(r"KUBE-SEP-\w+", line)
        assert chain
        masquerade, translate = chains[chain[0]]
        assert "KUBE-MARK-MASQ" in masquerade
        assert endpoint.removesuffix(":80") in masquerade
        assert translate.endswith(f"to:{endpoint}")
