"""The app's view: departures, subscriptions, and sends that lead nowhere."""

import ssl
import struct
from typing import Any

import pytest
import trio

from gateway.server import Limits

from .conftest import GET, Server, Start, quiet_config

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


class Watcher:
    """An app that notes when the client leaves, by all three ways in which it can know."""

    def __init__(self, phase: str = "waiting") -> None:
        self.phase = phase
        self.begun = trio.Event()
        self.told = trio.Event()
        self.received = trio.Event()
        self.send_failed = trio.Event()
        self.calls = 0
        self.subscribe: Any = None

    def left(self) -> None:
        self.calls += 1
        self.told.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.subscribe = scope["extensions"]["http.disconnect"]["subscribe"]
        self.subscribe(self.left)
        if self.phase == "answering":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        self.begun.set()
        if self.phase == "not reading":
            await self.told.wait()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.received.set()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except OSError:
            self.send_failed.set()
            raise


async def leave_by_fin(stream: Any) -> None:
    await stream.aclose()


async def leave_by_half_close(stream: Any) -> None:
    await stream.send_eof()


async def leave_by_reset(stream: Any) -> None:
    stream.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0
    await stream.aclose()


DEPARTURES = [leave_by_fin, leave_by_half_close, leave_by_reset]
REQUESTS = {
    "plain": GET,
    "in the body": POST + b"Content-Length: 10\r\n\r\nabc",
    "in the chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
    "with the next request": GET + GET,
    "with half the next request": GET + b"GET / HT",
    # More than the server takes (64 KiB), and not by much.
    "with too many next requests": GET * 3500,
    "with an unknown upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chess\r\n\r\n",
    # More than the server takes unread (128 KiB), and so little more that the kernel holds it on a busy machine too.
    "behind a body that waits": POST + b"Content-Length: 160000\r\n\r\n" + b"x" * 160_000,
}


@pytest.mark.parametrize("depart", DEPARTURES)
@pytest.mark.parametrize("request_bytes", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("phase", ["waiting", "answering", "not reading"])
async def test_departure_is_seen_at_once_in_every_state(
    start: Start, depart: Any, request_bytes: bytes, phase: str
) -> None:
    app = Watcher(phase)
    server = await start(app)
    client = await server.http1()
    await client.send(request_bytes)
    await app.begun.wait()
    if phase == "answering":
        await client.until(b"x")
    await trio.sleep(0.005)
    began = trio.current_time()
    await depart(client.stream)
    with trio.fail_after(2):
        await app.told.wait()
        await app.received.wait()
    assert trio.current_time() - began < 0.1
    assert app.calls == 1
    late: list[int] = []
    app.subscribe(lambda: late.append(1))
    assert late == [1]  # whoever asks later is told right away
    with trio.fail_after(1):
        await app.send_failed.wait()


@pytest.mark.parametrize("how", ["reset", "close", "goaway"])
async def test_departure_is_seen_over_http2(start: Start, how: str) -> None:
    app = Watcher("answering")
    server = await start(app)
    client = await server.http2()
    stream = await client.request(b"POST", end=False)
    await client.until(lambda: bytes(client.seen[stream].body) == b"x")
    if how == "reset":
        client.h2.reset_stream(stream, 8)
        await client.flush()
    else:
        await client.aclose()
    with trio.fail_after(1):
        await app.told.wait()
        await app.received.wait()
    assert app.calls == 1


@pytest.mark.parametrize("version", [1, 2])
async def test_departure_after_the_answer_is_none(start: Start, version: int) -> None:
    left: list[int] = []
    received: list[str] = []
    over = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        scope["extensions"]["http.disconnect"]["subscribe"](lambda: left.append(1))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        while not received or received[-1] != "http.disconnect":
            received.append((await receive())["type"])
        scope["extensions"]["http.disconnect"]["subscribe"](lambda: left.append(2))
        over.set()

    server = await start(app)
    if version == 1:
        client = await server.http1()
        await client.send(GET)
        await client.answer()
        await client.aclose()
    else:
        other = await server.http2()
        await other.get()
        await other.aclose()
    await over.wait()
    await trio.sleep(0.01)
    assert received == ["http.disconnect"]
    assert left == []


INFORMATION: Any = {"type": "http.response.informational", "status": 110, "headers": [(b"X-Soon", b"1")]}


async def informer(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if "http.response.informational" in scope["extensions"]:
        await send(INFORMATION)
        await send(INFORMATION | {"status": 111, "headers": [(b"Connection", b"close")]})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_informational_responses_come_before_the_answer(start: Start) -> None:
    client = await (await start(informer)).http1()
    await client.send(GET)
    assert await client.until(b"HTTP/1.1 200") == b"HTTP/1.1 110 \r\nX-Soon: 1\r\n\r\nHTTP/1.1 111 \r\n\r\nHTTP/1.1 200"


async def test_informational_responses_come_before_the_answer_over_http2(start: Start) -> None:
    seen = await (await (await start(informer)).http2()).get()
    assert (seen.informational, seen.status, bytes(seen.body)) == ([b"110", b"111"], 200, b"ok")


async def test_client_of_http_1_0_gets_no_informational_response(start: Start) -> None:
    client = await (await start(informer)).http1()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert await client.until(b" 200") == b"HTTP/1.1 200"


@pytest.mark.parametrize("status", [101, 99, 200])
async def test_other_status_than_1xx_is_no_informational_response(start: Start, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send(INFORMATION | {"status": status})

    client = await (await start(app)).http1()
    await client.send(GET)
    assert await client.until(b" 500") == b"HTTP/1.1 500"


async def test_departure_is_seen_over_tls(start: Start, certificates: tuple[str, str, ssl.SSLContext]) -> None:
    certificate, key, context = certificates
    app = Watcher()
    server = await start(app, config=quiet_config(certfile=certificate, keyfile=key))
    stream = trio.SSLStream(await server.connect(), context, server_hostname="127.0.0.1", https_compatible=True)
    await stream.send_all(GET)
    await app.begun.wait()
    await trio.aclose_forcefully(stream)
    with trio.fail_after(1):
        await app.told.wait()


async def test_callback_that_fails_keeps_no_other_from_being_told(start: Start) -> None:
    told = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        scope["extensions"]["http.disconnect"]["subscribe"](lambda: 1 / 0)
        scope["extensions"]["http.disconnect"]["subscribe"](told.set)
        await trio.sleep_forever()

    server = await start(app)
    client = await server.http1()
    await client.send(GET)
    await trio.sleep(0.01)
    await client.aclose()
    with trio.fail_after(1):
        await told.wait()
    assert await server_answers(server)


async def server_answers(server: Server) -> bool:
    await (await server.http1()).send(GET)
    return True


class Pourer:
    """An app that pours out bytes until it cannot, and notes how it ended."""

    def __init__(self, piece: int = 65_536, total: int = 2**62) -> None:
        self.piece = piece
        self.total = total
        self.sent = 0
        self.calls = 0
        self.failure: BaseException | None = None
        self.over = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - ASGI
        assert scope["type"] == "http"
        if scope["path"] == "/small":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return

        def left() -> None:
            self.calls += 1

        scope["extensions"]["http.disconnect"]["subscribe"](left)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while self.sent < self.total:
                await send({"type": "http.response.body", "body": bytes(self.piece), "more_body": True})
                self.sent += self.piece
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.over.set()


async def test_send_to_a_client_that_does_not_read_ends_at_the_client_timeout(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    app = Pourer()
    client = await (await start_in_memory(app, limits=Limits(client_timeout=7))).http1()
    await client.send(GET)
    await app.over.wait()
    assert trio.current_time() == pytest.approx(7)
    assert isinstance(app.failure, OSError)
    assert app.calls == 1


async def test_client_that_reads_now_and_then_is_served_on(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    app = Pourer()
    client = await (await start_in_memory(app, limits=Limits(client_timeout=7))).http1()
    await client.send(GET)
    with trio.move_on_after(1000):
        while True:
            await trio.sleep(6)
            for _ in range(2):
                await client.stream.receive_some(16_384)
    assert app.failure is None


@pytest.mark.parametrize("tls", [False, True])
async def test_client_timeout_over_real_sockets(
    start: Start,
    certificates: tuple[str, str, ssl.SSLContext],
    tls: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    certificate, key, context = certificates
    app = Pourer()
    config = quiet_config(certfile=certificate, keyfile=key) if tls else quiet_config()
    server = await start(app, limits=Limits(client_timeout=0.3), config=config)
    stream = await server.connect()
    if tls:
        stream = trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
    await stream.send_all(GET)
    with trio.fail_after(3):
        await app.over.wait()
    assert isinstance(app.failure, OSError)


async def test_send_that_the_app_cancels_half_way_ends_the_connection(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        with trio.move_on_after(3):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(1_000_000)})
        await trio.sleep(5)

    client = await (await start_in_memory(app)).http1()
    await client.send(GET)
    await trio.sleep(4)
    with pytest.raises(trio.BrokenResourceError):
        await client.rest()
    assert trio.current_time() == 4


async def test_send_that_is_cancelled_before_its_first_byte_has_said_nothing(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for body in (b"first", b"second"):
            with trio.CancelScope() as scope_of_one:
                scope_of_one.cancel()
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"last"})

    client = await (await start(app)).http1()
    for _ in range(50):  # now and then a write begins with a checkpoint
        await client.send(GET)
        said = await client.until(b"4\r\nlast\r\n0\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.partition(b"\r\n\r\n")[2].replace(b"5\r\nfirst\r\n", b"").replace(b"6\r\nsecond\r\n", b"") == (
            b"4\r\nlast\r\n0\r\n\r\n"
        )


async def test_http2_send_that_the_app_cancels_half_way_resets_the_stream(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(3):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        await send({"type": "http.response.body", "body": b"last"})

    client = await (await start_in_memory(app)).http2(greedy=False)
    stream = await client.request()
    await trio.sleep(4)
    client.h2.increment_flow_control_window(100_000, stream)
    client.h2.increment_flow_control_window(100_000)
    await client.flush()
    seen = await client.answer(stream)
    assert (len(seen.body), seen.ended, seen.reset) == (65_535, False, 2)  # INTERNAL_ERROR


async def test_cancelled_send_that_said_nothing_does_not_count_as_part_of_the_length(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        with trio.CancelScope() as scope_of_one:
            scope_of_one.cancel()
            await send({"type": "http.response.body", "body": b"once", "more_body": True})
        if scope_of_one.cancelled_caught:
            cancelled.set()
        await send({"type": "http.response.body", "body": b"last"})

    cancelled = trio.Event()
    client = await (await start(app)).http1()
    bodies = 0
    with trio.fail_after(5):
        while not cancelled.is_set():  # now and then a write begins with a checkpoint
            await client.send(GET)
            try:
                await client.until(b"oncelast")
            except AssertionError:  # closed: four bytes are missing, and the next answer must not be taken for them
                break
            bodies += 1
    assert cancelled.is_set()
    assert b"last" not in client.buffer
    assert bodies > 0


async def test_http2_stream_whose_window_stays_shut_is_cut_and_its_neighbours_are_not(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    app = Pourer()
    client = await (await start_in_memory(app, limits=Limits(client_timeout=7))).http2(greedy=False, window=1000)
    stream = await client.request()
    seen = await client.answer(stream)
    assert trio.current_time() == pytest.approx(7)
    assert seen.reset == 8  # CANCEL
    assert app.sent == 0
    assert app.calls == 1
    assert (await client.get(b"/small")).ended


async def test_http2_client_that_does_not_read_is_cut(start_in_memory: Start, autojump_clock: Any) -> None:
    app = Pourer()
    client = await (await start_in_memory(app, limits=Limits(client_timeout=7))).http2()
    client.h2.increment_flow_control_window(2**30)
    stream = await client.request()
    client.h2.increment_flow_control_window(2**30, stream)
    await client.flush()
    await app.over.wait()
    assert trio.current_time() == pytest.approx(7)
    assert app.calls == 1


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("waits_for", ["window", "socket"])
async def test_http2_send_that_waits_ends_when_the_client_leaves(
    start_in_memory: Start,
    autojump_clock: Any,
    how: str,
    waits_for: str,
) -> None:
    app = Pourer()
    client = await (await start_in_memory(app)).http2(greedy=False, window=1000 if waits_for == "window" else 2**30)
    if waits_for == "socket":
        client.h2.increment_flow_control_window(2**30)
    stream = await client.request()
    await trio.sleep(5)
    if how == "reset":
        client.h2.reset_stream(stream, 8)
        await client.flush()
    else:
        await client.aclose()
    await app.over.wait()
    assert trio.current_time() == 5
    assert isinstance(app.failure, OSError)


async def test_http2_client_that_reads_slowly_loses_none_of_many_streams(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(200_000)})

    client = await (await start_in_memory(app, limits=Limits(client_timeout=7))).http2()
    client.h2.increment_flow_control_window(2**30)
    streams = [await client.request() for _ in range(20)]
    for stream in streams:
        client.h2.increment_flow_control_window(2**20, stream)
    await client.flush()
    while not all(client.seen[stream].ended for stream in streams):
        await trio.sleep(0.5)
        await client.read()
        assert [client.seen[stream].reset for stream in streams] == [None] * 20
    assert trio.current_time() > 4 * 7
    assert [len(client.seen[stream].body) for stream in streams] == [200_000] * 20
