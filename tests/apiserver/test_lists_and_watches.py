"""LIST and WATCH: selectors, pages, resource versions, tables, bookmarks, history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from .api_server import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"name": name}}


async def make(server: Running, namespace: str, *names: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in names:
        assert (await server.post(path, config_map(name))).status == 201
    return path


def names(listed: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


class Watching:
    """The events of one watch."""

    def __init__(self, response: Any) -> None:
        self.status = response.status
        self._content = response.content

    async def next(self, seconds: float = 5) -> dict[str, Any]:
        line = await asyncio.wait_for(self._content.readline(), seconds)
        assert line, "the watch has ended"
        found: dict[str, Any] = msgspec.json.decode(line)
        return found

    async def named(self) -> tuple[str, str]:
        event = await self.next()
        return event["type"], event["object"]["metadata"]["name"]

    async def rest(self) -> list[dict[str, Any]]:
        text = await asyncio.wait_for(self._content.read(), 10)
        return [msgspec.json.decode(line) for line in text.splitlines()]


@contextlib.asynccontextmanager
async def watch(server: Running, path: str, accept: str = "application/json") -> AsyncIterator[Watching]:
    async with server.session().get(path, headers={"Accept": accept}) as response:
        yield Watching(response)


# LIST


async def test_a_list_is_whole_and_ordered(server: Running, namespace: str) -> None:
    path = await make(server, namespace, "b", "a", "c")
    listed = (await server.get(path)).json
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert names(listed) == ["a", "b", "c"]
    assert listed["items"][0] == (await server.get(f"{path}/a")).json
    newest = max(int(item["metadata"]["resourceVersion"]) for item in listed["items"])
    assert int(listed["metadata"]["resourceVersion"]) >= newest
    everywhere = (await server.get("/api/v1/configmaps")).json
    assert [item for item in everywhere["items"] if item["metadata"]["namespace"] == namespace] == listed[
        "items"
    ]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("labelSelector=app=web", ["a", "b"]),
        ("labelSelector=app==web,tier=front", ["a"]),
        ("labelSelector=app!=web", ["c", "d"]),
        ("labelSelector=app+in+(web,db)", ["a", "b", "c"]),
        ("labelSelector=app+notin+(web)", ["c", "d"]),
        ("labelSelector=app", ["a", "b", "c"]),
        ("labelSelector=!app", ["d"]),
        ("fieldSelector=metadata.name=b", ["b"]),
        ("fieldSelector=metadata.name!=b", ["a", "c", "d"]),
        ("labelSelector=app=web&fieldSelector=metadata.name!=a", ["b"]),
        ("limit=2", ["a", "b"]),
        ("labelSelector=app&limit=2", ["a", "b"]),
    ],
)
async def test_selectors(server: Running, namespace: str, selector: str, expected: list[str]) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for obj in (
        config_map("a", app="web", tier="front"),
        config_map("b", app="web"),
        config_map("c", app="db"),
        config_map("d"),
    ):
        await server.post(path, obj)
    assert names((await server.get(f"{path}?{selector}")).json) == expected


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("labelSelector=a=b=c", 400, "found '=', expected: ',' or 'end of string'"),
        (
            "fieldSelector=data=x",
            400,
            '"data" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("resourceVersion=x", 400, "resourceVersion: Invalid value"),
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        ("resourceVersionMatch=Odd&resourceVersion=1", 422, 'supported values: "Exact", "NotOlderThan"'),
        ("resourceVersion=99999999", 504, "Too large resource version: 99999999, current: "),
        ("resourceVersion=99999999&resourceVersionMatch=Exact", 504, "Too large resource version: 99999999"),
        ("continue=nonsense", 400, "continue key is not valid"),
        ("watch=1&sendInitialEvents=true", 422, "sendInitialEvents requires setting resourceVersionMatch"),
    ],
)
async def test_lists_that_are_refused(server: Running, query: str, code: int, message: str) -> None:
    reply = await server.get(f"/api/v1/namespaces/default/configmaps?{query}")
    assert reply.status == code
    assert message in reply.message


async def test_a_field_that_a_kind_does_not_select_by(server: Running) -> None:
    reply = await server.get("/api/v1/namespaces/default/pods?fieldSelector=spec.foo=x")
    assert (reply.status, reply.message) == (400, "field label not supported: spec.foo")


async def test_pages_are_of_one_moment(server: Running, namespace: str) -> None:
    path = await make(server, namespace, *(f"n{number}" for number in range(5)))
    first = (await server.get(f"{path}?limit=2")).json
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["n0", "n1"], 3)
    await make(server, namespace, "n2a")
    await server.delete(f"{path}/n3")
    second = (await server.get(f"{path}?limit=2&continue={first['metadata']['continue']}")).json
    assert names(second) == ["n2", "n3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    last = (await server.get(f"{path}?limit=2&continue={second['metadata']['continue']}")).json
    assert names(last) == ["n4"]
    assert "continue" not in last["metadata"]
    exact = f"{path}?resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact"
    assert names((await server.get(exact)).json) == [f"n{number}" for number in range(5)]
    assert names((await server.get(path)).json) == ["n0", "n1", "n2", "n2a", "n4"]


async def test_tables(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"port": 80, "name": "a"}, {"port": 443, "name": "b"}]
    await server.post(path, {"metadata": {"name": "s"}, "spec": {"ports": ports, "selector": {"a": "b"}}})
    table = (await server.get(path, Accept=TABLE)).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    columns = {column["name"]: column["priority"] for column in table["columnDefinitions"]}
    assert list(columns) == ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]
    assert columns["Selector"] == 1
    (row,) = table["rows"]
    address = (await server.get(f"{path}/s")).json["spec"]["clusterIP"]
    assert row["cells"][:5] == ["s", "ClusterIP", address, "<none>", "80/TCP,443/TCP"]
    assert row["cells"][5].endswith("s")
    assert row["cells"][6] == "a=b"
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == "s"
    one = (await server.get(f"{path}/s?includeObject=Object", Accept=TABLE)).json
    assert one["rows"][0]["object"]["spec"]["clusterIP"] == address
    none = (await server.get(f"{path}?includeObject=None", Accept=TABLE)).json
    assert "object" not in none["rows"][0]


async def test_metadata_only(server: Running, namespace: str) -> None:
    path = await make(server, namespace, "a")
    one = (await server.get(f"{path}/a", Accept=PARTIAL)).json
    assert set(one) == {"kind", "apiVersion", "metadata"}
    assert one["kind"] == "PartialObjectMetadata"
    listed = (await server.get(path, Accept=PARTIAL_LIST)).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"] == [one]


# WATCH


async def test_changes_arrive_in_order(server: Running, namespace: str) -> None:
    path = await make(server, namespace, "a")
    start = (await server.get(path)).json["metadata"]["resourceVersion"]
    async with watch(server, f"{path}?watch=1&resourceVersion={start}") as events:
        made = (await server.post(path, config_map("b"))).json
        assert await events.next() == {"type": "ADDED", "object": made}
        changed = (await server.patch(f"{path}/b", {"data": {"x": "y"}})).json
        assert await events.next() == {"type": "MODIFIED", "object": changed}
        await server.delete(f"{path}/b")
        deleted = await events.next()
        assert (deleted["type"], deleted["object"]["data"]) == ("DELETED", changed["data"])
        version = int(deleted["object"]["metadata"]["resourceVersion"])
        assert version > int(changed["metadata"]["resourceVersion"])
        await make(server, "default", f"{namespace}-elsewhere")
        await make(server, namespace, "c")
        assert await events.named() == ("ADDED", "c")
    # Who comes late gets the same, from the history.
    async with watch(server, f"{path}?watch=1&resourceVersion={start}") as events:
        assert [await events.named() for _ in range(4)] == [
            ("ADDED", "b"),
            ("MODIFIED", "b"),
            ("DELETED", "b"),
            ("ADDED", "c"),
        ]


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
async def test_without_a_version_a_watch_begins_with_what_is(
    server: Running, namespace: str, version: str
) -> None:
    path = await make(server, namespace, "a", "b")
    async with watch(server, f"{path}?watch=1{version}") as events:
        assert [await events.named(), await events.named()] == [("ADDED", "a"), ("ADDED", "b")]
        await make(server, namespace, "c")
        assert await events.named() == ("ADDED", "c")


async def test_initial_events_end_with_a_bookmark(server: Running, namespace: str) -> None:
    path = await make(server, namespace, "a")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with watch(server, f"{path}?{query}") as events:
        assert await events.named() == ("ADDED", "a")
        bookmark = await events.next()
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(bookmark["object"]["metadata"]["resourceVersion"]) > 0
        assert (bookmark["object"]["kind"], bookmark["object"]["apiVersion"]) == ("ConfigMap", "v1")
        await make(server, namespace, "b")
        assert await events.named() == ("ADDED", "b")


async def test_selection_by_label_comes_and_goes(server: Running, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await server.post(path, config_map("a", app="web"))
    async with watch(server, f"{path}?watch=1&labelSelector=app=web") as events:
        assert await events.named() == ("ADDED", "a")
        await server.patch(f"{path}/a", {"metadata": {"labels": {"app": "db"}}})
        gone = await events.next()
        assert (gone["type"], gone["object"]["metadata"]["labels"]) == ("DELETED", {"app": "web"})
        await server.patch(f"{path}/a", {"data": {"x": "unseen"}})
        await server.patch(f"{path}/a", {"metadata": {"labels": {"app": "web"}}})
        back = await events.next()
        assert (back["type"], back["object"]["data"]["x"]) == ("ADDED", "unseen")
        await server.delete(f"{path}/a")
        assert await events.named() == ("DELETED", "a")


async def test_watching_one_object_by_name(server: Running, namespace: str) -> None:
    path = await make(server, namespace, "a", "b")
    async with (
        watch(server, f"{path}/b?watch=1") as one,
        watch(server, f"{path}?watch=1&fieldSelector=metadata.name=b") as selected,
    ):
        for events in (one, selected):
            assert await events.named() == ("ADDED", "b")
        for name in ("a", "b"):
            await server.patch(f"{path}/{name}", {"data": {"x": "y"}})
        for events in (one, selected):
            assert await events.named() == ("MODIFIED", "b")


async def test_a_table_watch_names_its_columns_once(server: Running, namespace: str) -> None:
    path = await make(server, namespace, "a")
    async with (
        watch(server, f"{path}?watch=1", TABLE) as events,
        watch(server, f"{path}?watch=1", TABLE) as other,
    ):
        first = await events.next()
        assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert first["object"]["rows"][0]["cells"][:2] == ["a", 1]
        await other.next()
        await make(server, namespace, "b")
        for each in (events, other):
            second = await each.next()
            assert (second["type"], second["object"]["rows"][0]["cells"][0]) == ("ADDED", "b")
            assert second["object"]["columnDefinitions"] is None


async def test_a_watch_ends_when_it_is_told(server: Running, namespace: str) -> None:
    path = await make(server, namespace)
    async with watch(server, f"{path}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true") as events:
        (last,) = await events.rest()
        assert last["type"] == "BOOKMARK"


async def test_many_watchers_see_each_change_once(server: Running, namespace: str) -> None:
    path = await make(server, namespace)
    start = (await server.get(path)).json["metadata"]["resourceVersion"]
    async with contextlib.AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(watch(server, f"{path}?watch=1&resourceVersion={start}"))
            for _ in range(20)
        ]
        await asyncio.gather(*(make(server, namespace, f"n{number}") for number in range(20)))
        seen = [[await each.next() for _ in range(20)] for each in watchers]
    versions = [[int(event["object"]["metadata"]["resourceVersion"]) for event in events] for events in seen]
    assert versions[0] == sorted(versions[0])
    assert all(each == versions[0] for each in versions)


async def test_history_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        path = await make(first, "default", "a")
        start = (await first.get(path)).json["metadata"]["resourceVersion"]
        await make(first, "default", "b")
        await first.delete(f"{path}/a")
        authority = first.authority
    async with running(tmp_path, authority=authority) as second:
        async with watch(second, f"{path}?watch=1&resourceVersion={start}") as events:
            assert await events.named() == ("ADDED", "b")
            assert await events.named() == ("DELETED", "a")
            await make(second, "default", "c")
            assert await events.named() == ("ADDED", "c")
        assert names((await second.get(path)).json) == ["b", "c"]


async def test_compacted_history_is_gone(tmp_path: Path) -> None:
    from buoy.store.sqlite import SqliteStore

    async with running(tmp_path) as first:
        path = await make(first, "default", "a", "b")
        authority = first.authority
        page = (await first.get(f"{path}?limit=1")).json
    store = await SqliteStore.open(tmp_path / "store.sqlite")
    await store.compact(store.revision)
    await store.close()
    async with running(tmp_path, authority=authority) as second:
        await make(second, "default", "c")
        async with watch(second, f"{path}?watch=1&resourceVersion=3") as events:
            (event,) = await events.rest()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
            "ERROR",
            410,
            "Expired",
        )
        assert event["object"]["message"].startswith("too old resource version: 3 (")
        stale = int(page["metadata"]["resourceVersion"]) - 1
        reply = await second.get(f"{path}?resourceVersion={stale}&resourceVersionMatch=Exact")
        assert (reply.status, reply.json["reason"]) == (410, "Expired")
