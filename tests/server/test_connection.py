"""The wall round a connection, its clocks before any protocol, and what the log says."""

import contextlib
import gc
import logging
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from h2.connection import H2Connection
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.typing import ConnectionState

from gateway.server import Certificates, Limits
from gateway.server.connection import Connection
from gateway.server.drain import Context
from gateway.server.http1 import BODY_READ, CHUNKS_READ, HEAD_READ
from gateway.server.tls import TlsListener
from gateway.testing.network import MemoryNetwork

from .conftest import GET, Http1Client, Start, quiet_config


async def ok(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/broken":
        raise LookupError("broken app")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    logger = logging.getLogger("tests.server")
    logger.setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="tests.server")
    return logger


class BrokenStream(trio.abc.HalfCloseableStream):
    """A stream whose reads fail in a way that nobody expects."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 -- trio's signature
        raise self.error

    async def send_all(self, data: Any) -> None:
        pass

    async def send_eof(self) -> None:
        pass

    async def wait_send_all_might_not_block(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.close()


class Broken(trio.abc.Listener[trio.abc.Stream]):
    """Gives broken streams first, then those of another listener."""

    def __init__(self, streams: list[BrokenStream], inner: trio.abc.Listener[Any]) -> None:
        self.streams = list(streams)
        self.inner = inner

    async def accept(self) -> trio.abc.Stream:
        stream: trio.abc.Stream = self.streams.pop() if self.streams else await self.inner.accept()
        return stream

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_whatever_fails_on_a_connection_ends_there_and_is_logged(
    start: Start, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    streams = [
        BrokenStream(ValueError("odd")),
        BrokenStream(MemoryError("odder")),
        BrokenStream(ExceptionGroup("oddest", [KeyError(1), OSError(2)])),
    ]
    await start(ok, listeners=[Broken(streams, network.listen("gateway", 80))], config=quiet_config(errorlog=log))
    client = Http1Client(await network.connect("gateway", 80))
    await client.send(GET)
    assert (await client.answer())[0] == 200
    assert all(stream.closed for stream in streams)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["A connection failed"] * 3
    await client.aclose()


async def test_app_that_fails_is_logged_and_a_client_that_left_is_not(
    start: Start, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
        await ok(scope, receive, send)

    server = await start(app, config=quiet_config(errorlog=log))
    client = await server.http1()
    await client.send(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer())[0] == 500
    client = await server.http1()
    await client.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.aclose()
    await server.stop()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.message for record in errors] == ["The app failed"]
    assert errors[0].exc_info is not None
    assert isinstance(errors[0].exc_info[1], LookupError)


async def test_handshake_that_never_ends_is_ended(start: Start, certificates: tuple[str, str, ssl.SSLContext]) -> None:
    certificate, key, _ = certificates
    config = quiet_config(certfile=certificate, keyfile=key)
    server = await start(ok, config=config, limits=Limits(handshake_timeout=0.1))
    with trio.fail_after(2):
        assert await (await server.http1()).rest() == b""


async def test_plain_http_to_a_tls_port_costs_nobody(
    start: Start, certificates: tuple[str, str, ssl.SSLContext]
) -> None:
    certificate, key, context = certificates
    server = await start(ok, config=quiet_config(certfile=certificate, keyfile=key))
    plain = await server.http1()
    await plain.send(GET)
    with contextlib.suppress(trio.BrokenResourceError):
        await plain.rest()
    stream = trio.SSLStream(await server.connect(), context, server_hostname="127.0.0.1", https_compatible=True)
    client = Http1Client(stream)
    await client.send(GET)
    assert (await client.answer())[0] == 200


async def test_one_fast_client_does_not_starve_the_rest(start: Start) -> None:
    """Writes that succeed at once take no turn of the scheduler by themselves."""

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await ok(scope, receive, send)

    server = await start(endless)
    fast = socket.create_connection(("127.0.0.1", int(server.binds[0].rpartition(":")[2])))
    fast.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    enough = threading.Event()

    def swallow() -> None:  # in a thread, so that it reads while the app writes
        with fast:
            while not enough.is_set() and fast.recv(1_000_000):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, swallow)
        client = await server.http1()
        began = trio.current_time()
        for _ in range(20):
            await client.send(GET)
            await client.answer()
        enough.set()
    assert trio.current_time() - began < 1


@pytest.mark.parametrize("_round", range(8))  # whose turn it is first is left to chance
async def test_closed_connection_leaves_alone_whoever_has_its_descriptors_number(_round: int) -> None:
    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        while connection.protocol.wants_data:  # until the client is held back
            await trio.lowlevel.checkpoint()
        with pytest.raises(ValueError, match="longer"):
            await send({"type": "http.response.body", "body": b"too long"})
        another, _other = pair = socket.socketpair()
        numbers.append(another.fileno())
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await trio.lowlevel.wait_readable(another)
        for sock in pair:
            sock.close()

    ours, theirs = trio.socket.socketpair()
    numbers = [ours.fileno()]
    context = Context(Limits(request_buffer=1000))
    app = ASGIWrapper(breaks_off)
    connection = Connection(app, quiet_config(), context, ConnectionState({}), trio.SocketStream(ours))
    with theirs:
        await theirs.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(2000))
        with trio.fail_after(5):
            await connection.run()
    assert numbers[0] == numbers[1]


def descriptors() -> int:
    """How many this process has."""
    return len([*Path("/proc/self/fd").iterdir()])


async def test_connection_that_was_held_back_keeps_no_descriptor_for_that_while_it_is_idle() -> None:
    held: list[int] = []

    async def reads_when_held_back(scope: Any, receive: Any, send: Any) -> None:
        while connection.protocol.wants_data:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        held.append(descriptors())
        while (await receive())["more_body"]:
            pass
        await ok(scope, receive, send)

    ours, theirs = trio.socket.socketpair()
    app = ASGIWrapper(reads_when_held_back)
    context = Context(Limits(request_buffer=1000))
    connection = Connection(app, quiet_config(), context, ConnectionState({}), trio.SocketStream(ours))
    before = descriptors()
    with theirs, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            await theirs.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(2000))
            while not held:  # noqa: ASYNC110 -- it has no event
                await trio.sleep(0.001)
            await theirs.send(bytes(3000))
            assert await theirs.recv(65_536)
            await trio.testing.wait_all_tasks_blocked()
            assert (held, descriptors()) == ([before + 1], before)
            theirs.close()


def of_server(thing: object) -> bool:
    """Whether it is a connection, or h2's state of one, on the server's side."""
    kind = type(thing)  # some things lie about their class when asked
    return issubclass(kind, Connection) or (issubclass(kind, H2Connection) and not thing.config.client_side)  # type: ignore[attr-defined]  # which such a one has


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_closed_connection_is_let_go_of_without_the_garbage_collector(
    start: Start,
    http2: bool,  # noqa: FBT001 -- pytest passes it by name
) -> None:
    server = await start(ok)
    gc.collect()
    gc.disable()
    try:
        if http2:
            streams = await server.http2()
            assert (await streams.get()).status == 200
            await streams.aclose()
        else:
            client = await server.http1()
            await client.send(GET)
            await client.answer()
            await client.aclose()
        with trio.fail_after(5):
            while any(map(of_server, gc.get_objects())):  # noqa: ASYNC110 -- it has no event
                await trio.sleep(0.01)
    finally:
        gc.enable()


async def test_connection_whose_client_left_in_its_upload_is_let_go_of_without_the_garbage_collector(
    start: Start,
) -> None:
    reading = trio.Event()

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "http" and (await receive())["type"] == "http.request":
            reading.set()

    server = await start(reads)
    gc.collect()
    gc.disable()
    try:
        client = await server.http1()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(2000))
        with trio.fail_after(5):
            await reading.wait()
            await client.aclose()
            while any(map(of_server, gc.get_objects())):  # noqa: ASYNC110 -- it has no event
                await trio.sleep(0.01)
    finally:
        gc.enable()


class AskedStream(BrokenStream):
    """Gives a head, and then for ever nothing; notes how much it was asked for."""

    def __init__(self, head: bytes) -> None:
        super().__init__(LookupError())
        self.head = head
        self.asked: list[int | None] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.asked.append(max_bytes)
        if len(self.asked) > 1:
            await trio.sleep_forever()
        return self.head


@pytest.mark.parametrize(
    ("framing", "most"), [(b"Content-Length: 9", BODY_READ), (b"Transfer-Encoding: chunked", CHUNKS_READ)]
)
async def test_body_in_chunks_is_read_in_smaller_pieces(start: Start, framing: bytes, most: int) -> None:
    stream = AskedStream(b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % framing)
    await start(ok, listeners=[Broken([stream], MemoryNetwork().listen("gateway", 80))])
    await trio.testing.wait_all_tasks_blocked()
    assert stream.asked == [HEAD_READ, most]


class LateStream(BrokenStream):
    """Gives a request in the very moment in which the clock runs out that waits for it."""

    def __init__(self, at: float) -> None:
        super().__init__(LookupError())
        self.at = at
        self.sent = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 -- trio's signature
        if not self.at:
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            await trio.sleep_until(self.at)
        self.at = 0.0
        return GET

    async def send_all(self, data: Any) -> None:
        self.sent += data


async def test_request_that_comes_as_the_clock_runs_out_is_answered(start: Start, autojump_clock: Any) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await trio.sleep(5)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    stream = LateStream(trio.current_time() + 10)
    listener = Broken([stream], MemoryNetwork().listen("gateway", 80))
    await start(slow, listeners=[listener], limits=Limits(keep_alive_timeout=10))
    await trio.sleep(16)
    assert stream.sent.startswith(b"HTTP/1.1 200 ")
    assert not stream.closed
    await trio.sleep(10)
    assert stream.closed


@pytest.mark.parametrize("secure", [False, True], ids=["PROXY header", "TLS handshake"])
async def test_client_that_never_begins_holds_up_no_drain(
    start: Start, autojump_clock: Any, *, secure: bool, certificates: tuple[str, str, ssl.SSLContext]
) -> None:
    config = quiet_config(certfile=certificates[0], keyfile=certificates[1])
    inner = MemoryNetwork()
    listener: Any = inner.listen("gateway", 80)
    told: dict[str, Any] = {"proxies": {"127.0.0.1"}}
    if secure:
        listener, told = TlsListener(listener, Certificates(config)), {}
    server = await start(ok, listeners=[listener], config=config, **told)
    silent = await inner.connect("gateway", 80)
    await trio.sleep(1)
    await server.stop()
    assert trio.current_time() == pytest.approx(1)
    assert await silent.receive_some() == b""
