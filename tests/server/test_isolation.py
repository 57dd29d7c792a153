"""What one client can do to a stock server on trio, and what comes of it here.

Each case: the process lives on (a new connection is served), a connection that was open before is served too, and over
HTTP/2 a request that was in flight on the *same* connection gets its answer.
"""

import struct
from typing import Any

import pytest
import trio
from hyperframe.frame import DataFrame, PriorityFrame

from .conftest import GET, Http2Client, Server, Start, quiet_config


class Neighbours:
    """An app with a request that waits until the harm is done."""

    def __init__(self) -> None:
        self.go_on = trio.Event()
        self.paths: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 -- ASGI
        if scope["type"] != "http":
            raise RuntimeError("http alone")
        self.paths.append(scope["raw_path"])
        status = 200
        match scope["path"]:
            case "/wait":
                await self.go_on.wait()
            case "/early":
                status = 413
            case "/early-hint":
                status = 103
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


class Harm:
    """One server, one idle neighbour connection, one HTTP/2 connection with a request in flight."""

    def __init__(self, app: Neighbours, server: Server) -> None:
        self.app = app
        self.server = server

    async def __aenter__(self) -> Http2Client:
        self.neighbour = await self.server.http1()
        await self.neighbour.send(GET)
        assert (await self.neighbour.answer())[0] == 200
        self.client = await self.server.http2()
        self.waiting = await self.client.request(path=b"/wait")
        await self.client.read()
        return self.client

    async def __aexit__(self, *failure: object) -> None:
        if failure[0] is not None:
            return
        self.app.go_on.set()
        seen = await self.client.answer(self.waiting)
        assert (seen.status, bytes(seen.body), seen.ended) == (200, b"ok", True)
        await self.neighbour.send(GET)
        assert (await self.neighbour.answer())[0] == 200
        assert await self.server.is_alive()


@pytest.fixture
async def harm(start: Start) -> Harm:
    app = Neighbours()
    return Harm(app, await start(app))


async def test_k1_data_after_the_app_has_answered_is_dropped(harm: Harm) -> None:
    async with harm as client:
        upload = await client.request(b"POST", b"/early", end=False)
        seen = await client.answer(upload)
        assert seen.status == 413
        for _ in range(3):
            await client.data(upload, b"x" * 1000)
        await client.data(upload, b"", end=True)


async def test_k2_path_with_a_non_ascii_byte_costs_its_stream(harm: Harm) -> None:
    async with harm as client:
        assert (await client.get(b"/caf\xe9")).status == 400


async def test_k3_method_with_a_non_ascii_byte_costs_its_stream(harm: Harm) -> None:
    async with harm as client:
        assert (await client.answer(await client.request(b"G\xc9T"))).status == 400


async def test_k4_connect_without_path_costs_its_stream(harm: Harm) -> None:
    async with harm as client:
        stream = await client.request(fields=[(b":method", b"CONNECT"), (b":authority", b"a:443")])
        assert (await client.answer(stream)).status == 501


async def test_k5_thousands_of_priority_frames_are_ignored(harm: Harm) -> None:
    async with harm as client:
        frames = [PriorityFrame(stream_id, depends_on=0, stream_weight=1) for stream_id in range(1001, 9001, 2)]
        await client.raw(b"".join(frame.serialize() for frame in frames))
        assert (await client.get()).status == 200


async def test_k6_upgrade_to_h2c_is_answered_in_http1(harm: Harm) -> None:
    async with harm:
        client = await harm.server.http1()
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: !\r\n\r\n"
        )
        assert (await client.answer())[0] == 200
        await client.send(GET)
        assert (await client.answer())[0] == 200


async def test_k10_app_that_starts_with_1xx_fails_by_itself(harm: Harm) -> None:
    async with harm as client:
        assert (await client.get(b"/early-hint")).status == 500
        other = await harm.server.http1()
        await other.send(b"GET /early-hint HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await other.answer())[0] == 500


async def test_k11_host_that_is_not_utf8_is_refused_where_names_are_set(start: Start) -> None:
    app = Neighbours()
    server = await start(app, config=quiet_config(server_names=["a"]))
    async with Harm(app, server) as client:
        for host, status in ((b"\xff\xfe", 400), (b"b", 404)):
            other = await server.http1()
            await other.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert (await other.answer())[0] == status
            stream = await client.request(
                fields=[(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", host)]
            )
            assert (await client.answer(stream)).status == status


async def test_k12_clients_that_vanish_while_answers_are_written(start: Start) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = scope["path"] == "/endless"
        while True:
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": more})
            if not more:
                return

    server = await start(endless)
    for reset in (False, True):
        for _ in range(5):
            client = await server.http2()
            for _ in range(10):
                await client.request(path=b"/endless")
            await client.read()
            if reset:
                client.stream.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: close by RST
            await client.aclose()
    assert await server.is_alive()


async def test_frame_announced_too_large_is_refused_before_it_has_come(harm: Harm) -> None:
    async with harm:
        client = await harm.server.http2()
        await client.raw((2**24 - 1).to_bytes(3, "big") + b"\x00\x00\x00\x00\x00\x01")
        await client.until(lambda: client.goaway is not None)
        assert client.goaway is not None
        assert client.goaway.error_code == 6  # FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"")], id="empty path"),
        pytest.param([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")], id="no authority"),
        pytest.param([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")], id="no scheme"),
        pytest.param([(b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")], id="no method"),
        pytest.param([(b":nonsense", b"x")], id="unknown pseudo-header"),
    ],
)
async def test_malformed_request_costs_its_stream_and_no_other(harm: Harm, fields: list[tuple[bytes, bytes]]) -> None:
    async with harm as client:
        assert (await client.answer(await client.request(fields=fields))).status == 400


@pytest.mark.parametrize(
    "extra",
    [(b"connection", b"close"), (b"Upper", b"x"), (b"x", b"a\nb"), (b"host", b"b"), (b"te", b"gzip"), (b":path", b"/")],
    ids=str,
)
async def test_malformed_field_costs_its_stream_and_no_other(harm: Harm, extra: tuple[bytes, bytes]) -> None:
    async with harm as client:
        assert (await client.answer(await client.request(b"GET", b"/", extra))).status == 400


@pytest.mark.parametrize("length", [b"x", b"-1", b"+5"])
async def test_malformed_content_length_costs_its_stream_and_no_other(harm: Harm, length: bytes) -> None:
    async with harm as client:
        stream = await client.request(b"POST", b"/", (b"content-length", length), end=False)
        assert (await client.answer(stream)).reset == 1  # PROTOCOL_ERROR
        assert harm.app.paths == [b"/", b"/wait"]


async def test_body_longer_than_its_length_costs_its_stream_and_no_other(harm: Harm) -> None:
    async with harm as client:
        upload = await client.request(b"POST", b"/wait", (b"content-length", b"3"), end=False)
        await client.raw(DataFrame(upload, b"four").serialize())
        seen = await client.answer(upload)
        assert seen.reset == 1  # PROTOCOL_ERROR


async def test_malformed_bodies_do_not_use_up_the_connections_window(harm: Harm) -> None:
    async with harm as client:
        await client.until(lambda: client.h2.outbound_flow_control_window > 1_000_000)
        for _ in range(100):
            upload = await client.request(b"POST", b"/wait", (b"content-length", b"3"), end=False)
            await client.data(upload, bytes(16_000))
            assert (await client.answer(upload)).reset == 1
        assert client.h2.outbound_flow_control_window > 100_000


@pytest.mark.parametrize("path", [b"/caf\xe9", b"/"], ids=["malformed", "sound"])
async def test_request_that_is_reset_in_the_same_breath_costs_nobody(harm: Harm, path: bytes) -> None:
    async with harm as client:
        for _ in range(3):
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(
                stream, [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
            )
            client.h2.reset_stream(stream, 8)
        await client.flush()
        assert (await client.get()).status == 200
