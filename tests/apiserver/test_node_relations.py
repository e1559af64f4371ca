"""Which objects a node has to do with: the pure half of the Node authorizer."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from buoy.apiserver.nodes.relations import Ref, Relations

Object = dict[str, Any]


def pod(name: str, node: str = "n1", **spec: Any) -> Object:
    metadata: Object = {"name": name, "namespace": "ns", "uid": f"uid-of-{name}"}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [{"name": "c"}], **spec}}


def volume(name: str, claim: str, **source: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"claimRef": {"namespace": "ns", "name": claim}, **source},
    }


def in_ns(resource: str, name: str) -> Ref:
    return Ref(resource, "ns", name)


def everything() -> Object:
    return pod(
        "p",
        serviceAccountName="account",
        imagePullSecrets=[{"name": "pull"}],
        initContainers=[{"name": "i", "envFrom": [{"secretRef": {"name": "init"}}]}],
        containers=[
            {
                "name": "c",
                "envFrom": [{"configMapRef": {"name": "whole"}}],
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "k"}}},
                ],
            }
        ],
        ephemeralContainers=[{"name": "e", "envFrom": [{"secretRef": {"name": "debug"}}]}],
        volumes=[
            {"name": "a", "secret": {"secretName": "mounted"}},
            {"name": "b", "configMap": {"name": "mounted"}},
            {
                "name": "c",
                "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "part"}}]},
            },
            {"name": "d", "cephfs": {"secretRef": {"name": "ceph"}}},
            {"name": "e", "azureFile": {"secretName": "azure"}},
            {"name": "f", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
            {"name": "g", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "h", "ephemeral": {"volumeClaimTemplate": {}}},
        ],
        resourceClaims=[{"name": "r", "resourceClaimName": "device"}],
    )


def test_what_a_pod_names() -> None:
    relations = Relations()
    relations.put("pods", everything())
    expected = {
        "serviceaccounts": ["account"],
        "secrets": ["pull", "init", "key", "debug", "mounted", "part", "ceph", "azure", "csi"],
        "configmaps": ["whole", "key", "mounted", "part"],
        "persistentvolumeclaims": ["claim", "p-h"],
        "resourceclaims": ["device"],
        "pods": ["p"],
    }
    for resource, names in expected.items():
        for name in names:
            assert relations.related("n1", in_ns(resource, name)), (resource, name)
            assert not relations.related("n2", in_ns(resource, name)), (resource, name)
            assert not relations.related("n1", Ref(resource, "other", name)), (resource, name)
        assert not relations.related("n1", in_ns(resource, "unnamed"))
    relations.remove("pods", "ns", "p")
    assert relations == Relations()


def test_a_pod_that_no_node_has() -> None:
    relations = Relations()
    relations.put("pods", pod("p", "", serviceAccountName="account"))
    assert relations == Relations()
    relations.put("pods", pod("p", "n1", serviceAccountName="account"))
    assert relations.related("n1", in_ns("serviceaccounts", "account"))


def test_a_mirror_pod_gives_nothing_but_itself() -> None:
    relations = Relations()
    mirror = everything()
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    relations.put("pods", mirror)
    assert relations.related("n1", in_ns("pods", "p"))
    assert not relations.related("n1", in_ns("secrets", "mounted"))


def test_two_pods_with_the_same_secret() -> None:
    relations = Relations()
    mounts = {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}
    relations.put("pods", pod("p", **mounts))
    relations.put("pods", pod("q", **mounts))
    relations.remove("pods", "ns", "p")
    assert relations.related("n1", in_ns("secrets", "s"))
    relations.remove("pods", "ns", "q")
    assert not relations.related("n1", in_ns("secrets", "s"))


def test_what_is_added_to_a_running_pod() -> None:
    relations = Relations()
    relations.put("pods", pod("p"))
    debug = [{"name": "e", "envFrom": [{"secretRef": {"name": "debug"}}]}]
    relations.put("pods", pod("p", ephemeralContainers=debug))
    assert relations.related("n1", in_ns("secrets", "debug"))
    claimed = pod("p", ephemeralContainers=debug)
    claimed["status"] = {"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "made"}]}
    relations.put("pods", claimed)
    assert relations.related("n1", in_ns("resourceclaims", "made"))


def test_a_volume_of_a_claim_of_a_pod() -> None:
    relations = Relations()
    secrets = {
        "csi": {
            "nodePublishSecretRef": {"name": "publish", "namespace": "storage"},
            "nodeStageSecretRef": {"name": "stage"},
            "controllerPublishSecretRef": {"name": "controller"},
        }
    }
    relations.put("persistentvolumes", volume("pv", "claim", **secrets))
    assert not relations.related("n1", Ref("persistentvolumes", "", "pv"))
    relations.put("pods", pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]))
    for ref in (Ref("persistentvolumes", "", "pv"), Ref("secrets", "storage", "publish")):
        assert relations.related("n1", ref)
        assert not relations.related("n2", ref)
    assert relations.related("n1", in_ns("secrets", "stage"))
    assert not relations.related("n1", in_ns("secrets", "controller"))
    relations.put("persistentvolumes", volume("pv", "other", **secrets))
    assert not relations.related("n1", Ref("secrets", "storage", "publish"))


def test_what_names_its_node() -> None:
    relations = Relations()
    for resource in ("volumeattachments", "resourceslices"):
        relations.put(resource, {"metadata": {"name": "x"}, "spec": {"nodeName": "n1"}})
        assert relations.related("n1", Ref(resource, "", "x"))
        assert not relations.related("n2", Ref(resource, "", "x"))
        relations.remove(resource, "", "x")
        assert not relations.related("n1", Ref(resource, "", "x"))


# However it came to be, it is as if it were built anew.

names = st.sampled_from("abc")
nodes = st.sampled_from(["", "n1", "n2"])


@st.composite
def pods(draw: st.DrawFn) -> tuple[str, str, Object]:
    name = draw(names)
    made = pod(
        name,
        draw(nodes),
        serviceAccountName=draw(names),
        volumes=[
            {"name": "v", "secret": {"secretName": draw(names)}},
            {"name": "w", "persistentVolumeClaim": {"claimName": draw(names)}},
        ],
    )
    # What a Pod names is settled with its uid, but for what is counted.
    made["metadata"]["uid"] = str(draw(st.integers())) + repr(made["spec"])
    count = draw(st.integers(0, 2))
    made["spec"]["ephemeralContainers"] = [
        {"name": f"e{n}", "envFrom": [{"secretRef": {"name": "abc"[n]}}]} for n in range(count)
    ]
    return "pods", name, made


@st.composite
def volumes(draw: st.DrawFn) -> tuple[str, str, Object]:
    name = draw(names)
    secret = {"secretRef": {"name": draw(names), "namespace": draw(st.sampled_from(["ns", "storage"]))}}
    made = volume(name, draw(names), cephfs=secret)
    if draw(st.booleans()):
        del made["spec"]["claimRef"]
    return "persistentvolumes", name, made


@st.composite
def slices(draw: st.DrawFn) -> tuple[str, str, Object]:
    name = draw(names)
    return "resourceslices", name, {"metadata": {"name": name}, "spec": {"nodeName": draw(nodes)}}


changes = st.lists(st.tuples(st.one_of(pods(), volumes(), slices()), st.booleans()), min_size=10, max_size=40)


@given(changes)
def test_kept_up_to_date_is_as_built_anew(events: list[tuple[tuple[str, str, Object], bool]]) -> None:
    kept = Relations()
    there: dict[tuple[str, str], Object] = {}
    for (resource, name, obj), goes in events:
        if goes:
            kept.remove(resource, "ns" if resource == "pods" else "", name)
            there.pop((resource, name), None)
        else:
            kept.put(resource, obj)
            there[resource, name] = obj
    anew = Relations()
    for (resource, _), obj in there.items():
        anew.put(resource, obj)
    assert kept == anew
    for node in ("n1", "n2"):
        for resource in ("secrets", "serviceaccounts", "persistentvolumes", "pods", "resourceslices"):
            for namespace in ("", "ns", "storage"):
                for name in "abc":
                    ref = Ref(resource, namespace, name)
                    assert kept.related(node, ref) == reaches(node, ref, there)


def reaches(node: str, ref: Ref, there: dict[tuple[str, str], Object]) -> bool:
    """The same question, asked of all objects: is there a way from *ref* to the node?"""
    bound = [obj for (resource, _), obj in there.items() if resource == "pods"]
    bound = [obj for obj in bound if obj["spec"]["nodeName"] == node]

    def claimed(pv: Object) -> bool:
        claim = (pv["spec"].get("claimRef") or {}).get("name")
        return any(obj["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] == claim for obj in bound)

    def names_secret(obj: Object) -> bool:
        ephemeral = [each["envFrom"][0]["secretRef"]["name"] for each in obj["spec"]["ephemeralContainers"]]
        return ref.name in (obj["spec"]["volumes"][0]["secret"]["secretName"], *ephemeral)

    match ref.resource, ref.namespace:
        case "pods", "ns":
            return any(obj["metadata"]["name"] == ref.name for obj in bound)
        case "serviceaccounts", "ns":
            return any(obj["spec"]["serviceAccountName"] == ref.name for obj in bound)
        case "persistentvolumes", "":
            pv = there.get(("persistentvolumes", ref.name))
            return pv is not None and claimed(pv)
        case "resourceslices", "":
            found = there.get(("resourceslices", ref.name))
            return found is not None and found["spec"]["nodeName"] == node
        case "secrets", namespace:
            if namespace == "ns" and any(map(names_secret, bound)):
                return True
            return any(
                claimed(pv)
                and pv["spec"]["cephfs"]["secretRef"] == {"name": ref.name, "namespace": namespace}
                for (resource, _), pv in there.items()
                if resource == "persistentvolumes"
            )
    return False
