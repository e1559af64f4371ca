"""Variables, their expansion, Services as variables, and names inside a Pod."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api.meta import Object
from buoy.kubelet.dns import (
    HostNameError,
    Resolver,
    hosts_file,
    parse_resolv_conf,
    pod_resolver,
    sandbox_host_name,
)
from buoy.kubelet.environment import (
    ConfigError,
    Sources,
    environment,
    expand,
    pod_field,
    resource_field,
    service_environment,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$()", "$()"),
        ("$($(A))", "$($(A))"),
        ("", ""),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@given(st.text(alphabet="ab$()", max_size=20))
def test_escaped_text_comes_out_as_it_was(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"a": "1", "b": "2", "": "3"}) == text


def pod(container: Object | None = None, **spec: Any) -> Object:
    metadata = {
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "labels": {"app": "x"},
        "annotations": {"k": 'a"\n'},
    }
    return {"metadata": metadata, "spec": {"containers": [container or {"name": "c"}], **spec}}


def variables(
    *env: Object, env_from: list[Object] | None = None, services: dict[str, str] | None = None
) -> Any:
    sources = Sources(
        config_maps={"cm": {"data": {"a": "1", "b": "2", "bad=name": "x"}}},
        secrets={"s": {"word": b"sesame"}},
        pod_ips=("10.0.0.1", "fd00::1"),
        host_ips=("192.168.1.80",),
        node_name="node-1",
        allocatable={"memory": Decimal(4096), "cpu": Decimal(2)},
    )
    container = {
        "name": "c",
        "env": list(env),
        "envFrom": env_from or [],
        "resources": {"limits": {"cpu": "1500m"}},
    }
    return environment(pod(container), container, services or {}, sources)


def value_from(name: str, **origin: Any) -> Object:
    return {"name": name, "valueFrom": origin}


def test_variables_in_order_and_later_ones_win() -> None:
    found = variables(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C)$(SVC)"},
        {"name": "C", "value": "late"},
        {"name": "OVER", "value": "mine"},
        env_from=[{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
        services={"SVC": "s", "OVER": "service"},
    )
    assert found == {
        "SVC": "s", "P_a": "1", "P_b": "2", "word": "sesame",
        "A": "1", "B": "1$(C)s", "C": "late", "OVER": "mine",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}}, "p"),
        ({"fieldRef": {"fieldPath": "metadata.labels['app']"}}, "x"),
        ({"fieldRef": {"fieldPath": "metadata.labels['none']"}}, ""),
        ({"fieldRef": {"fieldPath": "spec.nodeName"}}, "node-1"),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "10.0.0.1"),
        ({"fieldRef": {"fieldPath": "status.podIPs"}}, "10.0.0.1,fd00::1"),
        ({"fieldRef": {"fieldPath": "status.hostIP"}}, "192.168.1.80"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "2"),
        ({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}, "1500"),
        ({"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}, "1500"),
        ({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Ki"}}, "4"),
        ({"resourceFieldRef": {"resource": "requests.memory"}}, "0"),
        ({"configMapKeyRef": {"name": "cm", "key": "a"}}, "1"),
        ({"secretKeyRef": {"name": "s", "key": "word"}}, "sesame"),
        ({"configMapKeyRef": {"name": "cm", "key": "no", "optional": True}}, None),
        ({"secretKeyRef": {"name": "no", "key": "no", "optional": True}}, None),
    ],
)
def test_where_values_come_from(origin: Object, expected: str | None) -> None:
    assert variables(value_from("V", **origin)).get("V") == expected


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "a"}}, 'configmap "no" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "no"}}, "couldn't find key no in ConfigMap ns/cm"),
        ({"secretKeyRef": {"name": "no", "key": "a"}}, 'secret "no" not found'),
        ({"secretKeyRef": {"name": "s", "key": "no"}}, "couldn't find key no in Secret ns/s"),
        ({"fieldRef": {"fieldPath": "status.phase"}}, "unsupported fieldPath: status.phase"),
    ],
)
def test_what_is_missing_is_named(origin: Object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        variables(value_from("V", **origin))
    assert str(raised.value) == message


def test_a_whole_source_that_is_missing() -> None:
    with pytest.raises(ConfigError, match='secret "no" not found'):
        variables(env_from=[{"secretRef": {"name": "no"}}])
    assert variables(env_from=[{"secretRef": {"name": "no", "optional": True}}]) == {}


def test_maps_in_the_downward_api() -> None:
    assert pod_field(pod(), "metadata.labels", Sources()) == 'app="x"'
    assert pod_field(pod(), "metadata.annotations", Sources()) == 'k="a\\"\\n"'
    with pytest.raises(ConfigError):
        resource_field(pod(), {}, {"resource": "limits.cpu", "containerName": "no"}, Sources())


def service(
    name: str, ip: str = "10.96.0.9", namespace: str = "ns", ports: Any = ((80, "", "TCP"),)
) -> Object:
    listed = [{"port": p, **({"name": n} if n else {}), "protocol": protocol} for p, n, protocol in ports]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": listed}}


MASTER = service("kubernetes", "10.96.0.1", "default", [(443, "https", "TCP")])


def test_services_as_variables() -> None:
    two = service("my-service", ports=[(80, "web-ui", "TCP"), (53, "dns", "UDP")])
    found = service_environment([two, service("other", namespace="elsewhere"), MASTER], "ns", True)
    assert {k: v for k, v in found.items() if k.startswith("MY_SERVICE")} == {
        "MY_SERVICE_SERVICE_HOST": "10.96.0.9",
        "MY_SERVICE_SERVICE_PORT": "80",
        "MY_SERVICE_SERVICE_PORT_WEB_UI": "80",
        "MY_SERVICE_SERVICE_PORT_DNS": "53",
        "MY_SERVICE_PORT": "tcp://10.96.0.9:80",
        "MY_SERVICE_PORT_80_TCP": "tcp://10.96.0.9:80",
        "MY_SERVICE_PORT_80_TCP_PROTO": "tcp",
        "MY_SERVICE_PORT_80_TCP_PORT": "80",
        "MY_SERVICE_PORT_80_TCP_ADDR": "10.96.0.9",
        "MY_SERVICE_PORT_53_UDP": "udp://10.96.0.9:53",
        "MY_SERVICE_PORT_53_UDP_PROTO": "udp",
        "MY_SERVICE_PORT_53_UDP_PORT": "53",
        "MY_SERVICE_PORT_53_UDP_ADDR": "10.96.0.9",
    }
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert not any(name.startswith("OTHER") for name in found)


def test_which_services_are_told_of() -> None:
    assert (
        service_environment([service("a"), MASTER], "ns", False).keys()
        == service_environment([MASTER], "x", True).keys()
    )
    assert service_environment([service("headless", "None"), service("external", "")], "ns", True) == {}
    mine = service("kubernetes", "10.96.7.7")
    assert service_environment([mine, MASTER], "ns", True)["KUBERNETES_SERVICE_HOST"] == "10.96.7.7"
    assert service_environment([MASTER, mine], "ns", True)["KUBERNETES_SERVICE_HOST"] == "10.96.7.7"
    six = service("six", "fd00::9")
    assert service_environment([six], "ns", True)["SIX_PORT"] == "tcp://[fd00::9]:80"


HOST = Resolver(("192.0.2.53",), ("example.org",), ("timeout:1",))
IN_CLUSTER = ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local")


def test_reading_resolv_conf() -> None:
    text = (
        "# c\nnameserver 1.1.1.1 # x\nsearch a. b\nsearch c d.\noptions ndots:2 rotate\n; c\nnameserver ::1\n"
    )
    assert parse_resolv_conf(text) == Resolver(("1.1.1.1", "::1"), ("c", "d"), ("ndots:2", "rotate"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Resolver(("10.96.0.10",), (*IN_CLUSTER, "example.org"), ("ndots:5",))),
        ({"dnsPolicy": "Default"}, HOST),
        ({"hostNetwork": True}, HOST),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            Resolver(("10.96.0.10",), (*IN_CLUSTER, "example.org"), ("ndots:5",)),
        ),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["x"], "options": [{"name": "a"}]},
            },
            Resolver(("9.9.9.9",), ("x",), ("a",)),
        ),
        (
            {
                "dnsConfig": {
                    "nameservers": ["10.96.0.10", "9.9.9.9"],
                    "options": [{"name": "ndots", "value": "2"}],
                }
            },
            Resolver(("10.96.0.10", "9.9.9.9"), (*IN_CLUSTER, "example.org"), ("ndots:2",)),
        ),
    ],
)
def test_dns_policies(spec: Object, expected: Resolver) -> None:
    assert pod_resolver(pod(**spec), HOST, ("10.96.0.10",), "cluster.local") == (expected, ())


def test_dns_limits() -> None:
    config = {
        "nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"],
        "searches": [f"domain-{n}.example" for n in range(40)],
    }
    found, warnings = pod_resolver(pod(dnsConfig=config), HOST, ("10.96.0.10",), "cluster.local")
    assert found.servers == ("10.96.0.10", "1.1.1.1", "2.2.2.2")
    assert len(found.searches) == 32
    assert [w.split(",")[0] for w in warnings] == [
        "Nameserver limits were exceeded", "Search Line limits were exceeded"
    ]  # fmt: skip


def test_host_names() -> None:
    assert sandbox_host_name(pod(), "cluster.local") == "p"
    assert sandbox_host_name(pod(hostNetwork=True), "cluster.local") == ""
    assert sandbox_host_name(pod(hostname="h", subdomain="s"), "cluster.local") == "h"
    full = pod(hostname="h", subdomain="s", setHostnameAsFQDN=True)
    assert sandbox_host_name(full, "cluster.local") == "h.s.ns.svc.cluster.local"
    with pytest.raises(HostNameError):
        sandbox_host_name(pod(hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True), "cluster.local")
    long = pod()
    long["metadata"]["name"] = "a" * 62 + "-" + "b" * 30
    assert sandbox_host_name(long, "cluster.local") == "a" * 62


def test_hosts_files() -> None:
    aliases = [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]
    text = hosts_file(pod(subdomain="s", hostAliases=aliases), ("10.0.0.1", "fd00::1"), "cluster.local", "")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.0.0.1\tp.s.ns.svc.cluster.local\tp\nfd00::1\tp.s.ns.svc.cluster.local\tp\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n")
    on_host = hosts_file(pod(hostNetwork=True), ("192.168.1.80",), "cluster.local", "127.0.0.1 localhost\n")
    assert on_host == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
