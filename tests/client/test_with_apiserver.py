"""The client with Buoy's own API server, in a process that gets killed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from buoy.api.resource import CONFIG_MAPS, CORE_EVENTS, LEASES
from buoy.api.status import StatusError
from buoy.client import Client, ConnectionFailed, EventRecorder, Informer, lead
from controllers.api_process import api_process
from eventual import eventually

from .test_informer import Follower, running

Object = dict[str, Any]
CLIENTS = 5


def config_map(name: str, count: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"count": str(count)},
    }


async def churn(client: Client, number: int, stop: asyncio.Event, written: list[str]) -> None:
    """Create, change and delete objects of one's own; note each version that was acknowledged."""
    count = 0
    while not stop.is_set():
        count += 1
        name = f"c{number}-{count % 4}"
        try:
            if (current := await found(client, name)) is None:
                current = await client.create(CONFIG_MAPS, config_map(name, count))
                written.append(current["metadata"]["resourceVersion"])
            elif count % 5 == 0:
                await client.delete(CONFIG_MAPS, name, "default")
            else:
                patched = await client.patch(CONFIG_MAPS, name, "default", {"data": {"count": str(count)}})
                written.append(patched["metadata"]["resourceVersion"])
        except ConnectionFailed:
            await asyncio.sleep(0.01)
        except StatusError as error:
            assert error.code == 404  # a deletion that was done, but sent again as its answer got lost
            assert count % 5 == 0


async def found(client: Client, name: str) -> Object | None:
    try:
        return await client.get(CONFIG_MAPS, name, "default")
    except StatusError as error:
        assert error.code == 404
        return None


async def test_an_informer_follows_through_kill_9(tmp_path: Path) -> None:
    """Without compactions in between a handler sees every version that was ever acknowledged."""
    async with api_process(tmp_path) as process, Client.from_kubeconfig(process.server.kubeconfig) as client:
        config_maps, follower = Informer(client, CONFIG_MAPS, namespace="default"), Follower()
        config_maps.subscribe(follower)
        stop, written = asyncio.Event(), list[str]()
        async with running(config_maps):
            writers = [
                asyncio.ensure_future(churn(client, number, stop, written)) for number in range(CLIENTS)
            ]
            try:
                for _ in range(3):
                    before = len(written)
                    await eventually(lambda before=before: len(written) > before + 50)
                    await process.kill()
                    await process.start()
            finally:
                stop.set()
                await asyncio.gather(*writers)
            end = await client.create(CONFIG_MAPS, config_map("end", 0))
            await eventually(lambda: "default/end" in follower.state)
            listed = await client.list(CONFIG_MAPS, "default")
        assert set(written) <= {str(new) for _, new in follower.versions}
        assert end["metadata"]["uid"] == follower.state["default/end"]["metadata"]["uid"]
        assert {key: obj["metadata"]["resourceVersion"] for key, obj in follower.state.items()} == {
            f"default/{obj['metadata']['name']}": obj["metadata"]["resourceVersion"] for obj in listed.items
        }


async def test_events_leases_and_pages(tmp_path: Path) -> None:
    async with api_process(tmp_path) as process, Client.from_kubeconfig(process.server.kubeconfig) as client:
        obj = await client.create(CONFIG_MAPS, config_map("about", 0))
        recorder = EventRecorder(client, "tester", "here")
        recording = asyncio.ensure_future(recorder.run())
        for number in range(12):
            recorder.event(obj, "Warning", "Happened", f"number {number}")
        recorder.event(obj, "Warning", "Happened", "number 3")
        await asyncio.wait_for(recorder.flushed(), 20)
        recording.cancel()
        events = (await client.list(CORE_EVENTS, "default", field_selector="involvedObject.name=about")).items
        assert sorted((event["message"], event["count"]) for event in events)[:2] == [
            ("(combined from similar events): number 11", 2),
            ("number 0", 1),
        ]
        assert ("number 3", 2) in [(event["message"], event["count"]) for event in events]

        first = await client.list(CORE_EVENTS, "default", limit=4)
        assert (len(first.items), bool(first.continue_token)) == (4, True)

        async def work() -> None:
            lease = await client.get(LEASES, "lock", "kube-system")
            assert lease["spec"]["holderIdentity"] == "me"

        await asyncio.wait_for(lead(client, "lock", "me", work), 10)
        assert (await client.get(LEASES, "lock", "kube-system"))["spec"]["holderIdentity"] == ""
        with pytest.raises(StatusError, match='configmaps "nothing" not found'):
            await client.get(CONFIG_MAPS, "nothing", "default")
