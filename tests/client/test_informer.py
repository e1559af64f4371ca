"""The informer: whatever the server and the network do, handlers see what happened, once and in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buoy.api.resource import PODS
from buoy.client import Client, Informer, informer
from buoy.client.credentials import Credential, Fixed
from buoy.client.kubeconfig import Access

from .small_api_server import SmallApiServer, refusal

Object = dict[str, Any]
Until = Callable[..., Any]


def pod(name: str, namespace: str = "d", **spec: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "managedFields": [{"manager": "m"}]},
        "spec": spec,
    }


def version(obj: Object | None) -> int:
    return int(obj["metadata"]["resourceVersion"]) if obj else 0


class Follower:
    """What a handler knows: the state it can reconstruct, checked call by call."""

    def __init__(self) -> None:
        self.state: dict[str, Object] = {}
        self.changes: list[tuple[Object | None, Object | None]] = []

    def __call__(self, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        assert old is self.state.get(key)
        if old and new:
            assert old["metadata"]["uid"] == new["metadata"]["uid"]
            assert version(old) < version(new)
        if new:
            assert "managedFields" not in new["metadata"]
            self.state[key] = new
        else:
            del self.state[key]
        self.changes.append((old, new))

    @property
    def versions(self) -> list[tuple[int, int]]:
        return [(version(old), version(new)) for old, new in self.changes]


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[Informer]:
    task = asyncio.ensure_future(informer.run())
    try:
        await asyncio.wait_for(informer.synced(), 10)
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stripped(objects: dict[str, Object]) -> dict[str, Object]:
    return {
        key: {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}
        for key, obj in objects.items()
    }


async def test_list_then_watch(client: Client, server: SmallApiServer, until: Until) -> None:
    await server.put("pods", pod("a"))
    pods, follower = Informer(client, PODS), Follower()
    pods.subscribe(follower)
    async with running(pods):
        assert pods.has_synced
        assert follower.versions == [(0, 11)]
        await server.put("pods", pod("a", image="x"))
        await server.put("pods", pod("b"))
        await server.put("nodes", {"metadata": {"name": "n"}})
        await server.remove("pods", "d/a")
        await until(lambda: len(follower.changes) == 4)
        assert follower.versions == [(0, 11), (11, 12), (0, 13), (12, 0)]
        assert pods.get("d/a") is None
        assert pods.get("d/b") is follower.state["d/b"]
        assert list(pods.items()) == [follower.state["d/b"]]
        assert follower.state["d/b"]["kind"] == "Pod"


async def test_late_subscriber_is_brought_up_to_date(client: Client, server: SmallApiServer) -> None:
    await server.put("pods", pod("a"))
    await server.put("pods", pod("b"))
    async with running(Informer(client, PODS)) as pods:
        follower = Follower()
        pods.subscribe(follower)
        assert follower.versions == [(0, 11), (0, 12)]


async def test_namespace_and_selectors_are_passed_on(client: Client, server: SmallApiServer) -> None:
    await server.put("pods", pod("a"))
    await server.put("pods", pod("a", "elsewhere"))
    pods = Informer(client, PODS, namespace="d", label_selector="a=b", field_selector="spec.nodeName=n")
    async with running(pods):
        assert len(pods.items()) == 1
        for request in server.requests:
            assert request.path == "/api/v1/namespaces/d/pods"
            assert request.query["labelSelector"] == "a=b"
            assert request.query["fieldSelector"] == "spec.nodeName=n"


async def test_index(client: Client, server: SmallApiServer, until: Until) -> None:
    pods = Informer(client, PODS)
    pods.add_index("node", lambda obj: obj["spec"].get("nodes", "").split())
    await server.put("pods", pod("a", nodes="n1 n2"))
    async with running(pods):
        assert [obj["metadata"]["name"] for obj in pods.by_index("node", "n2")] == ["a"]
        await server.put("pods", pod("b", nodes="n2"))
        await server.put("pods", pod("a", nodes="n1"))
        await until(lambda: version(pods.get("d/a")) == 13)
        assert [obj["metadata"]["name"] for obj in pods.by_index("node", "n2")] == ["b"]
        assert pods.by_index("node", "n1") == [pods.get("d/a")]
        await server.remove("pods", "d/a")
        await until(lambda: pods.get("d/a") is None)
        assert pods.by_index("node", "n1") == []
        assert pods.by_index("node", "unknown") == []


async def test_only_what_is_needed_is_kept(client: Client, server: SmallApiServer, until: Until) -> None:
    await server.put("pods", pod("a", image="x"))
    pods = Informer(client, PODS, transform=lambda obj: {"metadata": obj["metadata"]})
    async with running(pods):
        await server.put("pods", pod("b", image="x"))
        await until(lambda: len(pods.items()) == 2)
        assert [obj.keys() for obj in pods.items()] == [{"metadata"}] * 2


async def test_a_broken_watch_goes_on_where_it_was(
    client: Client, server: SmallApiServer, until: Until
) -> None:
    pods, follower = Informer(client, PODS), Follower()
    pods.subscribe(follower)
    async with running(pods):
        for number in range(5):
            await until(lambda: server.watchers == 1)
            server.disconnect()
            await server.put("pods", pod(f"p{number}"))
        await until(lambda: len(follower.changes) == 5)
        assert follower.versions == [(0, revision) for revision in range(11, 16)]
    lists = [request for request in server.requests if "watch" not in request.query]
    assert len(lists) == 1


@pytest.mark.parametrize("as_event", [False, True])
async def test_a_compaction_is_bridged(
    client: Client, server: SmallApiServer, until: Until, as_event: bool
) -> None:
    server.gone_as_event = as_event
    for name in ("gone", "changed", "same", "new-uid"):
        await server.put("pods", pod(name))
    pods, follower = Informer(client, PODS), Follower()
    pods.subscribe(follower)
    async with running(pods):
        await server.stop()
        await server.remove("pods", "d/gone")
        await server.put("pods", pod("changed", image="x"))
        await server.remove("pods", "d/new-uid")
        await server.put("pods", pod("new-uid"))
        await server.put("pods", pod("added"))
        await server.compact()
        del follower.changes[:]
        await server.start()
        await until(lambda: "d/added" in follower.state)
        await server.put("pods", pod("after"))
        await until(lambda: "d/after" in follower.state)
        assert sorted(follower.versions) == sorted(
            [(11, 0), (12, 16), (14, 0), (0, 18), (0, 19), (0, server.revision)]
        )
        assert follower.versions.index((14, 0)) < follower.versions.index((0, 18))


async def test_lists_in_pages_compacted_in_between(
    client: Client, server: SmallApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer, "_PAGE", 2)
    for number in range(5):
        await server.put("pods", pod(f"p{number}"))
    original = client.list

    async def list_and_compact(*args: Any, **kwargs: Any) -> Any:
        page = await original(*args, **kwargs)
        if page.continue_token and server.compacted == 10:
            await server.compact()
        return page

    monkeypatch.setattr(client, "list", list_and_compact)
    async with running(Informer(client, PODS)) as pods:
        assert len(pods.items()) == 5
    assert [request.query.get("limit") for request in server.requests[:3]] == ["2", "2", None]


async def test_lists_in_pages(
    client: Client, server: SmallApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer, "_PAGE", 2)
    for number in range(5):
        await server.put("pods", pod(f"p{number}"))
    server.break_lists = 1
    follower, pods = Follower(), Informer(client, PODS)
    pods.subscribe(follower)
    async with running(pods):
        assert follower.versions == [(0, revision) for revision in range(11, 16)]


async def test_refusals_are_survived(client: Client, server: SmallApiServer, until: Until) -> None:
    await server.put("pods", pod("a"))
    server.refusals += [refusal(403, "Forbidden", "no"), refusal(500, "InternalError", "oops")]
    async with running(Informer(client, PODS)) as pods:
        await until(lambda: server.watchers == 1)
        server.refusals += [refusal(403, "Forbidden", "no"), refusal(503, "ServiceUnavailable", "wait")]
        server.disconnect()
        await server.put("pods", pod("b"))
        await until(lambda: len(pods.items()) == 2)


async def test_the_cache_outlives_the_server(client: Client, server: SmallApiServer, until: Until) -> None:
    await server.put("pods", pod("a"))
    async with running(Informer(client, PODS)) as pods:
        await server.stop()
        assert len(pods.items()) == 1
        await server.put("pods", pod("b"))
        await server.start()
        await until(lambda: len(pods.items()) == 2, seconds=5)


async def test_a_fault_in_a_handler_is_not_hidden(client: Client, server: SmallApiServer) -> None:
    await server.put("pods", pod("a"))
    pods = Informer(client, PODS)
    pods.subscribe(lambda old, new: new["nonsense"] if new else None)
    with pytest.raises(KeyError, match="nonsense"):
        await asyncio.wait_for(pods.run(), 10)


NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES),
        st.tuples(st.just("put"), NAMES),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(
            st.sampled_from(["disconnect", "compact", "restart", "break list", "refuse", "settle", "turn"])
        ),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, page=st.sampled_from([1, 3, 500]), as_event=st.booleans())
def test_handlers_reconstruct_the_server(steps: list[tuple[str, ...]], page: int, as_event: bool) -> None:
    async def play() -> None:
        server = SmallApiServer()
        server.gone_as_event = as_event
        await server.start()
        client = Client(Access(server.url, Fixed(Credential())))
        pods, follower = Informer(client, PODS), Follower()
        pods.subscribe(follower)
        task = asyncio.ensure_future(pods.run())
        await asyncio.wait_for(pods.synced(), 10)
        compacted = False

        async def settle() -> None:
            async with asyncio.timeout(10):
                while follower.state != stripped(server.objects.get("pods", {})):
                    assert not task.done()
                    await asyncio.sleep(0.001)

        try:
            for step, *names in steps:
                if step == "put":
                    await server.put("pods", pod(names[0]))
                elif step == "remove" and f"d/{names[0]}" in server.objects.get("pods", {}):
                    await server.remove("pods", f"d/{names[0]}")
                elif step == "disconnect":
                    server.disconnect()
                elif step == "compact":
                    compacted = True
                    await server.compact()
                elif step == "restart":
                    await server.stop()
                    await server.start()
                elif step == "break list":
                    server.break_lists = 1
                elif step == "refuse":
                    server.refusals.append(refusal(503, "ServiceUnavailable", "wait"))
                elif step == "settle":
                    await settle()
                elif step == "turn":
                    await asyncio.sleep(0.001)
            await server.put("pods", pod("end"))
            await settle()
            news = [version(new) for _, new in follower.changes if new]
            assert len(set(news)) == len(news)
            if not compacted:  # then it was possible to see every single change
                happened: list[tuple[int, int]] = []
                last: dict[str, int] = {}
                for revision, _, kind, obj in server.log:
                    name = obj["metadata"]["name"]
                    now = 0 if kind == "DELETED" else revision
                    happened.append((last.get(name, 0), now))
                    last[name] = now
                assert follower.versions == happened
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()
            await server.stop()

    asyncio.run(play())
