from functools import partial
from typing import Any

import httpx
import pytest
import trio

from gateway.server import Beside, Leave, serve
from gateway.testing.clients import http_client
from gateway.testing.network import MemoryNetwork

from .conftest import quiet_config


async def slow(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await trio.sleep(20)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def clock(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % trio.current_time()})


@pytest.mark.parametrize(("leave", "there"), [(Leave.STOP, True), (Leave.REPLACED, False)])
async def test_second_app_is_there_to_the_end_of_a_drain_unless_another_process_takes_over(
    autojump_clock: Any, leave: Leave, *, there: bool
) -> None:
    network = MemoryNetwork()
    stop = trio.Event()

    async def shutdown() -> Leave:
        await stop.wait()
        return leave

    async with trio.open_nursery() as nursery:
        beside = Beside(clock, [network.listen("admin", 9000)])
        listeners = [network.listen("gateway", 80)]
        await nursery.start(partial(serve, slow, quiet_config(), listeners=listeners, shutdown=shutdown, beside=beside))
        async with http_client(network) as client, http_client(network) as admin:
            assert (await admin.get("http://admin:9000/")).text == "0"
            nursery.start_soon(client.get, "http://gateway/")
            await trio.sleep(1)
            stop.set()
            await trio.sleep(18)
            if there:
                assert (await admin.get("http://admin:9000/")).text == "19"
                await trio.sleep(2)  # the slow request is over, and so is all else, whoever looks on
            with pytest.raises(httpx.ConnectError):
                await admin.get("http://admin:9000/")
            await trio.sleep(2)
    assert network.listeners == []


async def test_what_fails_in_the_second_app_ends_one_request(autojump_clock: Any) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        beside = Beside(broken, [network.listen("admin", 9000)])
        await nursery.start(partial(serve, clock, quiet_config(), listeners=[network.listen("a", 80)], beside=beside))
        async with http_client(network) as client:
            assert (await client.get("http://admin:9000/")).status_code == 500
            assert (await client.get("http://a/")).status_code == 200
        nursery.cancel_scope.cancel()
