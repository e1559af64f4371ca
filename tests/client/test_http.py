"""The client against a real HTTP server: verbs, errors, broken connections."""

import asyncio
import socket

import aiohttp
import pytest

from buoy.api.resource import CONFIG_MAPS, DEPLOYMENTS, NODES, PODS
from buoy.api.status import StatusError
from buoy.client import Client, ConnectionFailed, http
from buoy.client.credentials import Credential, Fixed
from buoy.client.kubeconfig import Access

from .small_api_server import SmallApiServer, refusal


def config_map(name: str, namespace: str = "default", **data: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


async def test_life_of_an_object(client: Client, server: SmallApiServer) -> None:
    created = await client.create(CONFIG_MAPS, config_map("a", x="1"))
    assert created["metadata"]["resourceVersion"] == "11"
    assert await client.get(CONFIG_MAPS, "a", "default") == created
    updated = await client.update(CONFIG_MAPS, {**created, "data": {"x": "2"}})
    with pytest.raises(StatusError) as conflict:
        await client.update(CONFIG_MAPS, created)
    assert (conflict.value.code, conflict.value.reason) == (409, "Conflict")
    patched = await client.patch(CONFIG_MAPS, "a", "default", {"data": {"x": None, "y": "ü"}})
    assert patched["data"] == {"y": "ü"}
    assert patched["metadata"]["uid"] == updated["metadata"]["uid"]
    await client.delete(CONFIG_MAPS, "a", "default")
    assert server.deletion == {"apiVersion": "v1", "kind": "DeleteOptions"}
    with pytest.raises(StatusError) as missing:
        await client.get(CONFIG_MAPS, "a", "default")
    assert (missing.value.code, missing.value.reason) == (404, "NotFound")
    assert missing.value.message == 'configmaps "a" not found'


async def test_cluster_scoped_and_grouped_paths(client: Client, server: SmallApiServer) -> None:
    await client.create(NODES, {"metadata": {"name": "n"}})
    await client.get(NODES, "n")
    await client.create(DEPLOYMENTS, {"metadata": {"name": "d"}}, "there")
    await client.list(DEPLOYMENTS, label_selector="a in (b,c)", field_selector="metadata.name=d", limit=5)
    assert [request.path_qs for request in server.requests] == [
        "/api/v1/nodes",
        "/api/v1/nodes/n",
        "/apis/apps/v1/namespaces/there/deployments",
        "/apis/apps/v1/deployments?labelSelector=a+in+(b,c)&fieldSelector=metadata.name%3Dd&limit=5",
    ]
    assert server.requests[0].headers["Authorization"] == "Bearer token"
    assert server.requests[0].headers["User-Agent"] == "buoy"


async def test_many_requests_at_once_share_a_few_connections(client: Client, server: SmallApiServer) -> None:
    await asyncio.gather(*(client.create(NODES, {"metadata": {"name": f"n-{i}"}}) for i in range(100)))
    assert len(server.requests) == 100
    assert len({request.protocol for request in server.requests}) <= 16


@pytest.mark.parametrize("name", ["", ".", "..", "../../secrets/x", "a/b", "a%2fb"])
async def test_names_that_lead_elsewhere_are_not_asked_for(
    client: Client, server: SmallApiServer, name: str
) -> None:
    obj = config_map(name)
    for attempt in (
        client.get(CONFIG_MAPS, name, "default"),
        client.update(CONFIG_MAPS, obj),
        client.patch(CONFIG_MAPS, name, "default", {}),
        client.delete(CONFIG_MAPS, name, "default"),
    ):
        with pytest.raises(StatusError, match="resource name"):
            await attempt
    if name:
        with pytest.raises(StatusError, match="resource name"):
            await client.get(CONFIG_MAPS, "a", name)
    assert not server.requests


@pytest.mark.parametrize("name", ["a?watch=true", "a#b", "a b", "system:node", "ü", "a+b&c=d"])
async def test_other_names_arrive_as_they_are(client: Client, server: SmallApiServer, name: str) -> None:
    await client.create(CONFIG_MAPS, config_map(name))
    assert (await client.get(CONFIG_MAPS, name, "default"))["metadata"]["name"] == name
    assert server.requests[-1].path == f"/api/v1/namespaces/default/configmaps/{name}"


async def test_options_of_a_deletion(client: Client, server: SmallApiServer) -> None:
    await server.put("pods", {"metadata": {"name": "p", "namespace": "d"}})
    await client.delete(
        PODS, "p", "d", uid="u", resource_version="7", propagation="Foreground", grace_period=0
    )
    assert server.deletion == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0,
    }


@pytest.mark.parametrize(
    ("kind", "patch", "content_type"),
    [
        ("json", [{"op": "remove", "path": "/data"}], "application/json-patch+json"),
        ("strategic", {"data": {}}, "application/strategic-merge-patch+json"),
    ],
)
async def test_kinds_of_patches(
    client: Client, server: SmallApiServer, kind: str, patch: object, content_type: str
) -> None:
    await server.put("configmaps", config_map("a"))
    answer = await client.patch(CONFIG_MAPS, "a", "default", patch, type=kind)
    assert answer == {"type": content_type, "patch": patch}


async def test_subresource_creation(client: Client) -> None:
    binding = {"metadata": {"name": "p", "namespace": "d"}, "target": {"name": "n"}}
    answer = await client.create(PODS, binding, subresource="binding", name="p")
    assert (answer["subresource"], answer["of"], answer["sent"]) == ("binding", "p", binding)


async def test_list_in_pages(client: Client, server: SmallApiServer) -> None:
    for number in range(5):
        await server.put("configmaps", config_map(f"c{number}"))
    page = await client.list(CONFIG_MAPS, "default", limit=3)
    assert [item["metadata"]["name"] for item in page.items] == ["c0", "c1", "c2"]
    assert (page.items[0]["apiVersion"], page.items[0]["kind"]) == ("v1", "ConfigMap")
    await server.remove("configmaps", "default/c4")
    rest = await client.list(CONFIG_MAPS, "default", limit=3, continue_token=page.continue_token)
    assert [item["metadata"]["name"] for item in rest.items] == ["c3", "c4"]
    assert (rest.resource_version, rest.continue_token) == (page.resource_version, "")


async def test_failures_without_a_status(client: Client, server: SmallApiServer) -> None:
    server.refusals.append(aiohttp.web.Response(status=502, text="bad gateway"))
    with pytest.raises(StatusError, match="bad gateway") as error:
        await client.get(NODES, "n")
    assert error.value.code == 502


async def test_text_answers(client: Client, server: SmallApiServer) -> None:
    server.refusals.append(aiohttp.web.Response(status=200, text="ok"))
    assert await client.request("GET", "/livez") == "ok"


async def test_too_many_requests_are_tried_again(client: Client, server: SmallApiServer) -> None:
    server.refusals += [
        refusal(429, "TooManyRequests", "slow down", **{"Retry-After": "0"}) for _ in range(3)
    ]
    assert (await client.create(CONFIG_MAPS, config_map("a")))["metadata"]["name"] == "a"
    assert len(server.requests) == 4


async def test_but_not_for_ever(client: Client, server: SmallApiServer) -> None:
    server.refusals += [refusal(503, "ServiceUnavailable", "no", **{"Retry-After": "0"}) for _ in range(20)]
    with pytest.raises(StatusError, match="no"):
        await client.get(NODES, "n")
    assert len(server.requests) == 6


async def test_other_failures_are_not_tried_again(client: Client, server: SmallApiServer) -> None:
    server.refusals.append(refusal(500, "InternalError", "oops"))
    with pytest.raises(StatusError, match="oops"):
        await client.create(CONFIG_MAPS, config_map("a"))
    assert len(server.requests) == 1


async def test_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with Client(Access(f"http://127.0.0.1:{port}", Fixed(Credential()))) as client:
        with pytest.raises(ConnectionFailed, match=f"GET http://127.0.0.1:{port}/api/v1/nodes/n: ") as error:
            await client.get(NODES, "n")
        assert isinstance(error.value, OSError)
        with pytest.raises(ConnectionFailed):
            await anext(client.watch(NODES))


async def test_silent_server(client: Client, server: SmallApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_REQUEST_TIMEOUT", aiohttp.ClientTimeout(total=0.05))
    server.hang = True
    with pytest.raises(ConnectionFailed, match="TimeoutError"):
        await client.get(NODES, "n")


async def test_answer_cut_short(client: Client, server: SmallApiServer) -> None:
    await server.put("configmaps", config_map("a", x="y" * 1000))
    server.break_lists = 1
    with pytest.raises(ConnectionFailed):
        await client.list(CONFIG_MAPS)
    assert len((await client.list(CONFIG_MAPS)).items) == 1


async def test_server_restart_between_requests(client: Client, server: SmallApiServer) -> None:
    await server.put("configmaps", config_map("a"))
    await client.get(CONFIG_MAPS, "a", "default")
    await server.stop()
    with pytest.raises(ConnectionFailed):
        await client.get(CONFIG_MAPS, "a", "default")
    await server.start()
    await client.get(CONFIG_MAPS, "a", "default")


async def test_watch(client: Client, server: SmallApiServer) -> None:
    server.silent = True
    big = "x" * 300_000  # more than any buffer on the way
    await server.put("configmaps", config_map("a"))
    watch = client.watch(CONFIG_MAPS, "default", resource_version="10")
    kind, obj = await anext(watch)
    assert (kind, obj["metadata"]["name"]) == ("ADDED", "a")
    await server.put("configmaps", config_map("elsewhere", "other"))
    await server.put("configmaps", config_map("a", x=big))
    kind, obj = await anext(watch)
    assert (kind, obj["data"]) == ("MODIFIED", {"x": big})
    await server.remove("configmaps", "default/a")
    kind, obj = await anext(watch)
    assert (kind, obj["metadata"]["resourceVersion"]) == ("DELETED", "14")
    assert 300 <= int(server.requests[0].query["timeoutSeconds"]) <= 600
    reader = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    server.disconnect()
    with pytest.raises(ConnectionFailed):
        await reader


async def test_bookmarks_come_only_when_asked_for(client: Client, server: SmallApiServer) -> None:
    kind, obj = await anext(client.watch(CONFIG_MAPS, resource_version="10", bookmarks=True))
    assert (kind, obj["metadata"]["resourceVersion"]) == ("BOOKMARK", "10")
    assert server.requests[0].query["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("as_event", [False, True])
async def test_watch_of_a_compacted_version(client: Client, server: SmallApiServer, as_event: bool) -> None:
    server.gone_as_event = as_event
    with pytest.raises(StatusError, match="too old resource version") as error:
        await anext(client.watch(CONFIG_MAPS, resource_version="5"))
    assert error.value.code == 410


async def test_many_requests_at_once(client: Client, server: SmallApiServer) -> None:
    await asyncio.gather(*(client.create(CONFIG_MAPS, config_map(f"c{number}")) for number in range(100)))
    assert len(server.objects["configmaps"]) == 100
