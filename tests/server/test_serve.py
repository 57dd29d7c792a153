import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from gateway.server import Leave, Limits, serve
from gateway.testing.network import MemoryNetwork

from .conftest import GET, Start, quiet_config


async def ok(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class Lived:
    """An app with a lifespan that a test can steer."""

    def __init__(self, *, fail: str = "", hold: trio.Event | None = None) -> None:
        self.fail = fail
        self.hold = hold
        self.events: list[str] = []
        self.crash = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if self.hold is not None:
                await self.hold.wait()
            await ok(scope, receive, send)
            return
        scope["state"]["made at"] = "startup"
        async with trio.open_nursery() as nursery:
            while True:
                message = await receive()
                stage = message["type"].removeprefix("lifespan.")
                self.events.append(stage)
                if self.fail == f"say {stage}":
                    await send({"type": f"lifespan.{stage}.failed", "message": "no luck"})
                if self.fail == f"raise {stage}":
                    raise LookupError(stage)
                if self.fail == f"hang {stage}":
                    await trio.sleep_forever()
                await send({"type": f"lifespan.{stage}.complete"})
                if stage == "shutdown":
                    return
                if self.fail == "return":
                    return
                if self.fail == "crash":
                    nursery.start_soon(self._crash)

    async def _crash(self) -> None:
        await self.crash.wait()
        raise LookupError("crashed")


# ---- the app's lifespan


async def test_app_is_started_before_and_shut_down_after_its_requests(start: Start) -> None:
    states: list[Any] = []
    lived = Lived()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            states.append(scope["state"])
            scope["state"]["mine"] = 1
        await lived(scope, receive, send)

    server = await start(app)
    assert lived.events == ["startup"]
    client = await server.http1()
    for _ in range(2):
        await client.send(GET)
        assert (await client.answer())[0] == 200
    await server.stop()
    assert lived.events == ["startup", "shutdown"]
    assert states == [{"made at": "startup", "mine": 1}] * 2
    assert states[0] is not states[1]


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        ("say startup", LifespanFailureError),
        ("raise startup", LookupError),
        ("hang startup", LifespanTimeoutError),
        ("say shutdown", LifespanFailureError),
        ("raise shutdown", LookupError),
        ("hang shutdown", LifespanTimeoutError),
    ],
)
async def test_app_that_fails_in_its_lifespan_ends_serve_with_its_error(
    fail: str,
    error: type[Exception],
    autojump_clock: Any,
) -> None:
    async def at_once() -> None:
        pass

    with pytest.raises(error):
        await serve(Lived(fail=fail), quiet_config(), listeners=[], shutdown=at_once)


async def test_app_that_crashes_while_serving_ends_serve_with_its_error(autojump_clock: Any) -> None:
    app = Lived(fail="crash", hold=trio.Event())
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
            with pytest.raises(LookupError, match="crashed"):
                await serve(app, quiet_config(), listeners=[network.listen("gateway", 80)], task_status=task_status)

        await nursery.start(run)
        client = await network.connect("gateway", 80)
        await client.send_all(GET)  # in flight: what it was working with is gone
        await trio.sleep(1)
        app.crash.set()
    assert trio.current_time() == 1
    await client.aclose()
    assert network.open_streams == []


@pytest.mark.parametrize("fail", ["return", ""])
async def test_app_without_or_with_a_short_lifespan_is_served(start: Start, fail: str) -> None:
    server = await start(Lived(fail=fail) if fail else ok)
    assert await server.is_alive()
    await server.stop()


# ---- listening


async def test_address_in_use_is_raised_before_the_app_starts() -> None:
    app = Lived()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await serve(app, quiet_config(bind=[f"127.0.0.1:{taken.getsockname()[1]}"]))
    assert app.events == []


async def test_connections_beyond_the_limit_wait(start_in_memory: Start, autojump_clock: Any) -> None:
    server = await start_in_memory(ok, limits=Limits(max_connections=2, keep_alive_timeout=10))
    clients = [await server.http1() for _ in range(2)]
    for client in clients:
        await client.send(GET)
        await client.answer()
    third = await server.http1()
    await third.send(GET)
    assert (await third.answer())[0] == 200
    assert trio.current_time() == 10  # when the idle ones had gone


async def test_running_out_of_descriptors_passes_by_itself(autojump_clock: Any) -> None:
    class Starved(trio.abc.Listener[trio.abc.Stream]):
        def __init__(self, inner: trio.abc.Listener[Any]) -> None:
            self.inner = inner
            self.failures = 5

        async def accept(self) -> trio.abc.Stream:
            if self.failures:
                self.failures -= 1
                raise OSError(24, "too many open files")
            stream: trio.abc.Stream = await self.inner.accept()
            return stream

        async def aclose(self) -> None:
            await self.inner.aclose()

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, ok, quiet_config(), listeners=[Starved(network.listen("gateway", 80))]))
        client = await network.connect("gateway", 80)
        await client.send_all(GET)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert trio.current_time() == pytest.approx(0.5)
        await client.aclose()
        nursery.cancel_scope.cancel()


async def test_several_servers_share_a_process(start: Start) -> None:
    servers = [await start(ok) for _ in range(3)]
    await servers[0].stop()
    assert [await server.is_alive() for server in servers[1:]] == [True, True]


# ---- the drain


class Slow:
    """An app whose requests take a while, and that can be told to stop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.hooks: list[tuple[str, float]] = []
        self.cancelled = 0

    def on_drain(self) -> None:
        self.hooks.append(("drain", trio.current_time()))

    def on_cut(self) -> None:
        self.hooks.append(("cut", trio.current_time()))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        try:
            if scope["path"] != "/quick":
                await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        await ok(scope, receive, send)


async def test_drain_in_its_order_and_at_its_times(start_in_memory: Start, autojump_clock: Any) -> None:
    app = Slow(20)
    server = await start_in_memory(
        app, limits=Limits(drain_delay=5, drain_timeout=30), on_drain=app.on_drain, on_cut=app.on_cut
    )
    idle = await server.http1()
    await idle.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"connection" not in (await idle.answer())[1]
    idle2 = await server.http2()
    await idle2.get(b"/quick")
    busy = await server.http1()
    await busy.send(GET)
    busy2 = await server.http2()
    stream = await busy2.request()
    await trio.sleep(1)

    server.shutdown.set()
    await trio.sleep(4)  # 5 s: the delay; new connections and requests are still served
    late = await server.http1()
    await late.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await late.answer())[1][b"connection"] == b"close"
    await idle2.get(b"/quick")
    assert [goaway.last_stream_id for goaway in idle2.goaways] == [2**31 - 1]

    assert await idle.rest() == b""
    await idle2.until_closed()
    assert trio.current_time() == 6  # with the listeners
    assert idle2.goaways[-1].last_stream_id == 3
    with pytest.raises(OSError, match="efused"):
        await server.connect()

    assert (await busy.answer())[1][b"connection"] == b"close"
    assert (await busy2.answer(stream)).ended
    assert trio.current_time() == 20
    assert busy2.goaways[-1].last_stream_id == 1
    await busy.aclose()
    await busy2.aclose()
    await server.ended.wait()
    assert trio.current_time() == 20
    assert app.hooks == [("drain", 1)]
    assert app.cancelled == 0


async def test_requests_that_outlast_the_drain_are_told_and_then_cancelled(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    app = Slow(1000)
    server = await start_in_memory(app, limits=Limits(drain_timeout=30), on_drain=app.on_drain, on_cut=app.on_cut)
    client = await server.http1()
    await client.send(GET)
    other = await server.http2()
    await other.request()
    await trio.sleep(1)
    await server.stop()
    assert trio.current_time() == 32
    assert app.hooks == [("drain", 1), ("cut", 31)]
    assert app.cancelled == 2


async def test_app_that_ends_when_it_is_cut_still_answers(start_in_memory: Start, autojump_clock: Any) -> None:
    cut = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await cut.wait()
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"stopping"})

    server = await start_in_memory(app, limits=Limits(drain_timeout=30), on_cut=cut.set)
    client = await server.http1()
    await client.send(GET)
    await trio.sleep(1)
    server.shutdown.set()
    assert (await client.answer())[0] == 503
    await client.aclose()
    await server.ended.wait()
    assert trio.current_time() == 31


@pytest.mark.parametrize("version", [1, 2])
async def test_client_that_does_not_read_cannot_hold_the_process(
    start_in_memory: Start,
    autojump_clock: Any,
    version: int,
) -> None:
    async def pour(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})

    server = await start_in_memory(pour, limits=Limits(drain_timeout=3, client_timeout=1000))
    if version == 1:
        await (await server.http1()).send(GET)
    else:
        await (await server.http2(greedy=False)).request()
    await trio.sleep(1)
    await server.stop()
    assert trio.current_time() == 5


async def test_half_a_head_may_be_completed_in_the_drain(start_in_memory: Start, autojump_clock: Any) -> None:
    server = await start_in_memory(ok)
    client = await server.http1()
    await client.send(GET[:10])
    await trio.sleep(1)
    server.shutdown.set()
    await trio.sleep(1)
    await client.send(GET[10:])
    status, fields, _ = await client.answer()
    assert (status, fields[b"connection"]) == (200, b"close")
    assert await client.rest() == b""
    await client.aclose()
    await server.ended.wait()
    assert trio.current_time() == 2


async def test_drain_over_real_sockets(start: Start) -> None:
    app = Slow(0.1)
    server = await start(app)
    idle = await server.http1()
    await idle.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
    await idle.answer()
    busy = await server.http1()
    await busy.send(GET)
    await trio.sleep(0.01)
    server.shutdown.set()
    assert await idle.rest() == b""
    assert (await busy.answer())[0] == 200
    await busy.aclose()
    await server.ended.wait()
    with pytest.raises(OSError, match=r"refused|failed"):
        await server.connect()


async def test_cancelled_serve_stops_at_once_and_leaves_nothing(autojump_clock: Any) -> None:
    network = MemoryNetwork()
    app = Slow(1000)
    with trio.move_on_after(3):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, app, quiet_config(), listeners=[network.listen("gateway", 80)]))
            client = await network.connect("gateway", 80)
            await client.send_all(GET)
            await trio.sleep_forever()
    assert trio.current_time() == 3
    assert app.cancelled == 1
    assert network.listeners == []
    await client.aclose()
    assert network.open_streams == []


async def test_unix_socket_and_inherited_descriptor_are_served(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    await start(ok, config=quiet_config(bind=[f"unix:{path}"]))
    stream = await trio.open_unix_socket(path)
    await stream.send_all(GET)
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    await stream.aclose()
    inherited = socket.socket()
    inherited.bind(("127.0.0.1", 0))
    server = await start(ok, config=quiet_config(bind=[f"fd://{inherited.detach()}"]))
    assert await server.is_alive()


# ---- leaving to other processes


async def test_server_that_is_replaced_accepts_no_more_and_answers_what_its_clients_still_ask(
    start_in_memory: Start, autojump_clock: Any
) -> None:
    replaced = trio.Event()

    async def shutdown() -> Leave:
        await replaced.wait()
        return Leave.REPLACED

    app = Slow(20)
    limits = Limits(drain_delay=100, replace_delay=5)
    server = await start_in_memory(app, limits=limits, on_drain=app.on_drain, shutdown=shutdown)
    idle, asking, busy = [await server.http1() for _ in range(3)]
    for client in (idle, asking):
        await client.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.answer()
    await busy.send(GET)
    await trio.sleep(1)
    replaced.set()
    await trio.sleep(3)
    with pytest.raises(OSError, match="efused"):
        await server.connect()
    assert app.hooks == []  # the address is served by others, so it is as ready as ever
    await asking.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asking.answer())[1][b"connection"] == b"close"
    assert trio.current_time() == 4
    assert await idle.rest() == b""
    assert trio.current_time() == 6
    assert app.hooks == [("drain", 6)]
    assert (await busy.answer())[0] == 200
    assert trio.current_time() == 20
    await busy.aclose()
    await server.ended.wait()


async def test_server_that_is_replaced_without_connections_leaves_at_once(
    start_in_memory: Start, autojump_clock: Any
) -> None:
    async def at_once() -> Leave:
        return Leave.REPLACED

    server = await start_in_memory(ok, limits=Limits(replace_delay=5), shutdown=at_once)
    await server.ended.wait()
    assert trio.current_time() == 0
