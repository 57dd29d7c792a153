import gc
import tracemalloc
import zlib
from typing import Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection as WSFrames
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from gateway.server import Limits

from .conftest import GET, Http2Client, Start, quiet_config

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
EXTENSION = b"Sec-WebSocket-Extensions: permessage-deflate; "
CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":path", b"/ws"),
    (b":authority", b"a"),
    (b"sec-websocket-version", b"13"),
]


class Echo:
    """Echoes messages; the path says how it accepts. Keeps what it received."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.go_on = trio.Event()
        self.over = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: C901 -- a branch per way to accept
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        assert scope["type"] == "websocket"
        assert (await receive()) == {"type": "websocket.connect"}
        if scope["query_string"] == b"wait":
            await self.go_on.wait()
        if scope["query_string"] == b"reject":
            await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x", b"y")]})
            await send({"type": "websocket.http.response.body", "body": b"teapot"})
            return
        if scope["query_string"] == b"refuse":
            await send({"type": "websocket.close"})
            return
        if scope["query_string"] == b"raise":
            raise RuntimeError("broken")
        await send({"type": "websocket.accept", "subprotocol": None, "headers": [(b"x-mine", b"1")]})
        if scope["query_string"] == b"close":
            await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        if scope["query_string"] == b"return":
            return
        if scope["query_string"] == b"stall":
            await self.go_on.wait()
        while True:
            message = await receive()
            self.received.append(message)
            if message["type"] == "websocket.disconnect":
                self.over.set()
                return
            await send({"type": "websocket.send", "bytes": message["bytes"], "text": message["text"]})


class Client:
    """A WebSocket client over HTTP/1.1."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.ws = WSConnection(ConnectionType.CLIENT)

    async def open(self, target: str = "/ws") -> "Client":
        await self.send(Request(host="a", target=target))
        return self

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.ws.send(event))

    async def next(self) -> Event:
        while True:
            for event in self.ws.events():
                return event
            data = await self.stream.receive_some(65536)
            self.ws.receive_data(data or None)


async def test_messages_pings_and_the_clients_close_pass(start: Start) -> None:
    app = Echo()
    client = await Client(await (await start(app)).connect()).open()
    accepted = await client.next()
    assert isinstance(accepted, AcceptConnection)
    assert (b"x-mine", b"1") in accepted.extra_headers
    await client.send(TextMessage("hello"))
    assert await client.next() == TextMessage("hello")
    await client.send(BytesMessage(b"\x00" * 70_000))
    body = b""
    while len(body) < 70_000:
        event = await client.next()
        assert isinstance(event, BytesMessage)
        body += event.data
    await client.send(Ping(b"?"))
    assert await client.next() == Pong(b"?")
    await client.send(CloseConnection(3001, "bye"))
    assert await client.next() == CloseConnection(3001, "bye")
    await app.over.wait()
    assert app.received[-1] == {"type": "websocket.disconnect", "code": 3001, "reason": "bye"}  # stock: always 1006
    assert await client.stream.receive_some(1) == b""


async def test_client_that_vanishes_is_1006(start: Start) -> None:
    app = Echo()
    client = await Client(await (await start(app)).connect()).open()
    await client.next()
    await client.stream.aclose()
    with trio.fail_after(1):
        await app.over.wait()
    assert app.received[-1]["code"] == 1006


async def test_apps_close_reaches_the_client(start: Start) -> None:
    client = await Client(await (await start(Echo())).connect()).open("/ws?close")
    await client.next()
    assert await client.next() == CloseConnection(4000, "enough")


async def test_app_that_returns_without_closing_is_1011(start: Start) -> None:
    client = await Client(await (await start(Echo())).connect()).open("/ws?return")
    await client.next()
    event = await client.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1011


@pytest.mark.parametrize(("how", "status"), [("reject", 418), ("refuse", 403), ("raise", 500)])
async def test_refusal_is_an_ordinary_answer(start: Start, how: str, status: int) -> None:
    client = await Client(await (await start(Echo())).connect()).open(f"/ws?{how}")
    event = await client.next()
    assert isinstance(event, RejectConnection)
    assert event.status_code == status
    if how == "reject":
        data = await client.next()
        assert isinstance(data, RejectData)
        assert data.data == b"teapot"


async def test_app_that_does_not_read_holds_its_client_back(start_in_memory: Start, autojump_clock: Any) -> None:
    app = Echo()
    client = await Client(await (await start_in_memory(app)).connect()).open("/ws?stall")
    await client.next()
    sent = 0
    with trio.move_on_after(1):
        while sent < 5_000_000:
            await client.send(BytesMessage(bytes(1000)))
            sent += 1000
    assert sent < 1_000_000
    assert autojump_clock is not None


async def test_drain_says_1001(start: Start) -> None:
    app = Echo()
    server = await start(app)
    client = await Client(await server.connect()).open()
    await client.next()
    server.shutdown.set()
    event = await client.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1001
    await client.stream.aclose()
    with trio.fail_after(1):
        await server.ended.wait()
    assert app.received[-1]["code"] == 1001


# ---- what ends a stock server


async def refused(server: Any, handshake: bytes) -> int:
    client = await server.http1()
    await client.send(handshake)
    return int((await client.rest()).split(b" ")[1])


@pytest.mark.parametrize(
    "handshake",
    [
        pytest.param(HANDSHAKE + b"Sec-WebSocket-Protocol: caf\xe9\r\n\r\n", id="K7"),
        pytest.param(HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: upgrade, \xe9") + b"\r\n", id="K13"),
        pytest.param(HANDSHAKE + EXTENSION + b"server_max_window_bits=x\r\n\r\n", id="K14"),
        pytest.param(HANDSHAKE + EXTENSION + b"\xe9\r\n\r\n", id="K14 not ASCII"),
        pytest.param(HANDSHAKE + b"Content-Length: 3\r\n\r\nabc", id="K15"),
        pytest.param(HANDSHAKE.replace(b"13", b"12") + b"\r\n", id="version"),
        pytest.param(HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X") + b"\r\n", id="no key"),
    ],
)
async def test_k7_k13_k14_k15_malformed_handshake_is_refused(start: Start, handshake: bytes) -> None:
    server = await start(Echo())
    neighbour = await server.http1()
    assert await refused(server, handshake) == 400
    await neighbour.send(GET)
    assert (await neighbour.answer())[0] == 200
    assert await server.is_alive()


async def test_k8_frames_before_the_app_accepts_wait_for_it(start: Start) -> None:
    app = Echo()
    server = await start(app)
    client = await server.http1()
    frame = WSFrames(ConnectionType.CLIENT).send(TextMessage("early"))
    await client.send(HANDSHAKE.replace(b"/ws", b"/ws?wait") + b"\r\n" + frame)
    await trio.sleep(0.01)
    await client.send(WSFrames(ConnectionType.CLIENT).send(TextMessage("later")))
    await trio.sleep(0.01)
    app.go_on.set()
    await client.until(b"later")
    assert [message["text"] for message in app.received] == ["early", "later"]
    assert await server.is_alive()


async def test_frames_that_are_none_end_the_websocket(start: Start) -> None:
    app = Echo()
    server = await start(app)
    client = await Client(await server.connect()).open()
    await client.next()
    await client.stream.send_all(b"\xff\xff\xff\xff")
    event = await client.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1002
    await app.over.wait()
    assert await server.is_alive()


async def test_message_over_the_limit_is_1009(start: Start) -> None:
    server = await start(Echo(), config=quiet_config(websocket_max_message_size=1000))
    client = await Client(await server.connect()).open()
    await client.next()
    await client.send(BytesMessage(bytes(1001)))
    event = await client.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1009


# ---- over HTTP/2


async def open_over_http2(client: Http2Client, path: bytes = b"/ws") -> tuple[int, WSFrames]:
    await client.until(lambda: client.h2.remote_settings.enable_connect_protocol == 1)
    stream = await client.request(fields=[(n, path if n == b":path" else v) for n, v in CONNECT], end=False)
    await client.until(lambda: bool(client.seen[stream].headers))
    return stream, WSFrames(ConnectionType.CLIENT)


async def frames(client: Http2Client, stream: int, ws: WSFrames) -> list[Event]:
    """What comes next on the stream."""
    seen = client.seen[stream]
    await client.until(lambda: bool(seen.body) or seen.ended or seen.reset is not None)
    data = bytes(seen.body)
    seen.body.clear()
    ws.receive_data(data or None)
    return list(ws.events())


async def test_websocket_over_http2_shares_its_connection(start: Start) -> None:
    app = Echo()
    client = await (await start(app)).http2()
    stream, ws = await open_over_http2(client)
    assert client.seen[stream].status == 200
    await client.data(stream, ws.send(TextMessage("hello")))
    assert await frames(client, stream, ws) == [TextMessage("hello")]
    assert bytes((await client.get()).body) == b"ok"
    await client.data(stream, ws.send(CloseConnection(3001)))
    assert await frames(client, stream, ws) == [CloseConnection(3001, "")]
    await client.until(lambda: client.seen[stream].ended)
    assert app.received[-1]["code"] == 3001


async def test_k9_data_after_the_close_costs_nobody(start: Start) -> None:
    client = await (await start(Echo())).http2()
    stream, _ = await open_over_http2(client, b"/ws?close")
    await client.until(lambda: client.seen[stream].ended)
    for _ in range(3):
        await client.data(stream, b"junk")
    assert bytes((await client.get()).body) == b"ok"


async def test_k7_over_http2_costs_its_stream(start: Start) -> None:
    client = await (await start(Echo())).http2()
    await client.until(lambda: client.h2.remote_settings.enable_connect_protocol == 1)
    for extra in (
        (b"sec-websocket-protocol", b"\xe9"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits=x"),
    ):
        stream = await client.request(fields=[*CONNECT, extra], end=False)
        assert (await client.answer(stream)).status == 400
    assert bytes((await client.get()).body) == b"ok"


async def test_app_that_reads_no_websocket_holds_up_no_other_stream(start: Start) -> None:
    """Stock: the task that reads the connection waits for that app."""
    client = await (await start(Echo(), limits=Limits(request_buffer=65_535))).http2()
    stream, ws = await open_over_http2(client, b"/ws?stall")
    while client.h2.local_flow_control_window(stream) > 1100:
        await client.data(stream, ws.send(BytesMessage(bytes(1000))))
    assert bytes((await client.get()).body) == b"ok"
    gc.collect()


async def test_messages_of_many_tasks_all_go_out_when_the_client_reads_again(start: Start) -> None:
    sent: list[int] = []
    waiting = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})

        async def one(number: int, size: int) -> None:
            await send({"type": "websocket.send", "bytes": b"x" * size})
            sent.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 0, 8_000_000)  # more than the kernel takes
            await trio.testing.wait_all_tasks_blocked()
            for number in range(1, 5):
                nursery.start_soon(one, number, 1)
            await trio.testing.wait_all_tasks_blocked()
            waiting.set()

    server = await start(app)
    client = await server.http1()
    await client.send(HANDSHAKE + b"\r\n")
    await waiting.wait()
    with trio.fail_after(5):
        await client.rest()
    assert sorted(sent) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("path", [b"/ws", b"/ws?wait"])
async def test_streams_that_clients_end_without_a_close_are_over(start: Start, path: bytes) -> None:
    app = Echo()
    client = await (await start(app, limits=Limits(max_streams=2))).http2()
    await client.until(lambda: client.h2.remote_settings.enable_connect_protocol == 1)
    with trio.fail_after(5):
        for _ in range(5):  # each of them would else take a place for good
            fields = [(n, path if n == b":path" else v) for n, v in CONNECT]
            stream = await client.request(fields=fields, end=False)
            if path == b"/ws":
                await client.until(lambda: bool(client.seen[stream].headers))  # noqa: B023 -- called at once
            await client.data(stream, b"", end=True)
            seen = await client.answer(stream)
            assert seen.ended == (path == b"/ws")
            app.go_on.set()
        assert bytes((await client.get()).body) == b"ok"
    if path == b"/ws":
        assert [message["code"] for message in app.received] == [1006] * 5


async def test_close_that_ends_the_stream_at_once_keeps_its_code(start: Start) -> None:
    app = Echo()
    client = await (await start(app)).http2()
    stream, ws = await open_over_http2(client)
    await client.data(stream, ws.send(CloseConnection(3001)), end=True)
    with trio.fail_after(5):
        await app.over.wait()
    assert [message["code"] for message in app.received] == [3001]


async def test_memory_does_not_follow_what_a_client_has_compressed(start: Start) -> None:
    size = 100_000_000
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(deflate.compress(bytes(1_000_000)) for _ in range(size // 1_000_000))
    bomb += deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
    frame = b"\xc2\xff" + len(bomb).to_bytes(8) + bytes(4) + bomb
    server = await start(Echo(), config=quiet_config(websocket_max_message_size=1_000_000))
    client = await server.http1()
    await client.send(HANDSHAKE + EXTENSION + b"\r\n\r\n")
    await client.until(b"\r\n\r\n")
    tracemalloc.start()
    await client.send(frame)
    with trio.fail_after(20):
        assert (await client.rest())[2:4] == (1009).to_bytes(2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 4
