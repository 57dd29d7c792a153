"""Bytes of one request are never taken for another: what is left of a body when its exchange is given up is nothing."""

import os
from typing import Any

import pytest
import trio
import trio.testing

from gateway.testing.network import MemoryNetwork

from .conftest import GET, Start

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


CHUNKED = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
EMPTY = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}


async def test_body_that_turns_out_malformed_as_the_answer_begins_gets_one_answer(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/upload":
            os.write(client.stream.socket.fileno(), b"no chunk\r\n")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
            await trio.testing.wait_all_tasks_blocked()
        else:
            await send(EMPTY)
        await send({"type": "http.response.body"})

    server = await start(app)
    for _ in range(20):  # which of the two comes first is left to chance
        client = await server.http1()
        for _ in range(16):  # after so many writes that succeed at once the next one lets others go first
            await client.send(GET)
            await client.until(b"\r\n\r\n")
        await client.send(CHUNKED)
        assert (await client.rest()).count(b"HTTP/1.1 ") == 1


async def test_100_continue_never_stands_in_the_middle_of_an_answer(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/":
            await send(EMPTY)
            await send({"type": "http.response.body"})
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.lowlevel.checkpoint()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
            await trio.testing.wait_all_tasks_blocked()
            await send({"type": "http.response.body", "body": b"cd"})
            nursery.cancel_scope.cancel()

    server = await start(app)
    for _ in range(20):
        client = await server.http1()
        for _ in range(16):
            await client.send(GET)
            await client.until(b"\r\n\r\n")
        await client.send(EXPECTING)
        assert (await client.rest()).endswith(b"\r\n\r\nabcd")


async def test_app_that_is_cancelled_as_it_asks_for_the_body_can_ask_again(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/upload":
            with trio.CancelScope() as scope_of_one_wait:
                scope_of_one_wait.cancel()
                await receive()
            assert (await receive())["body"] == b"ab"
        await send(EMPTY)
        await send({"type": "http.response.body"})

    server = await start(app)
    client = await server.http1()
    for _ in range(16):
        await client.send(GET)
        await client.until(b"\r\n\r\n")
    await client.send(EXPECTING)
    with trio.fail_after(5):
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ab")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
