"""Bytes of one request are never taken for another: what is left of a body when its exchange is given up is nothing."""

from typing import Any

import pytest
import trio

from gateway.testing.network import MemoryNetwork

from .conftest import Start

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize("steps", range(40))
async def test_rest_of_an_upload_is_no_request_whenever_its_answer_breaks_off(
    start_in_memory: Start, steps: int
) -> None:
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        paths.append(scope["path"])
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"early", "more_body": True})
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        # It returns with its answer unfinished, at every step of the reader, which has more of the body in its hands.

    server = await start_in_memory(app, network=MemoryNetwork(buffer_size=1000))
    client = await server.http1()
    try:
        await client.send(UPLOAD)
        for _ in range(30):
            await client.send(SMUGGLED)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    await trio.testing.wait_all_tasks_blocked()
    assert paths == ["/upload"]
