import gc
import resource
import ssl
from typing import Any

import httpx
import pytest
import trio
import trio.lowlevel
import trio.testing
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, SettingsFrame

from gateway.server import Limits

from .conftest import Start, quiet_config


async def ok(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Case", b"v")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def read_all(receive: Any) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = await read_all(receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


# ---- both ways


async def test_prior_knowledge_is_understood_byte_by_byte(start: Start) -> None:
    client = await (await start(ok)).http2()
    await client.aclose()
    client = await (await start(ok)).http2()
    assert bytes((await client.get()).body) == b"ok"
    server = await start(ok)
    raw = await server.connect()
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize():
        await raw.send_all(bytes([byte]))
        await trio.lowlevel.checkpoint()
    assert (await raw.receive_some(9))[3] == 4  # SETTINGS


async def test_tls_offers_h2_and_http1(start: Start, certificates: tuple[str, str, ssl.SSLContext]) -> None:
    certificate, key, context = certificates
    server = await start(ok, config=quiet_config(certfile=certificate, keyfile=key))
    assert server.binds[0].startswith("https://")
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        async with httpx.AsyncClient(verify=context, http1=True, http2=http2) as client:
            answer = await client.get(server.binds[0] + "/")
            assert (answer.text, answer.http_version) == ("ok", version)


async def test_scope_says_what_came(start: Start) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        scopes.append(scope)
        await ok(scope, receive, send)

    client = await (await start(app)).http2()
    await client.answer(
        await client.request(b"get", b"/a%2Fb?", (b"x", b"1"), (b"cookie", b"a=1"), (b"cookie", b"b=2"))
    )
    scope = scopes[0]
    assert scope["method"] == "get"
    assert scope["raw_path"] == b"/a%2Fb"
    assert scope["extensions"]["http.request.target"] == {"target": b"/a%2Fb?"}
    assert scope["headers"] == [(b"host", b"a"), (b"x", b"1"), (b"cookie", b"a=1; b=2")]
    assert scope["http_version"] == "2"


async def test_answer_has_lower_case_names_one_date_and_no_server(start: Start) -> None:
    client = await (await start(ok)).http2()
    seen = await client.get()
    names = [name for name, _ in seen.headers]
    assert names == [b":status", b"x-case", b"content-length", b"date"]


async def test_large_bodies_pass_both_ways(start: Start) -> None:
    client = await (await start(echo)).http2()
    stream = await client.request(b"POST", end=False)
    body = bytes(range(256)) * 8192  # 2 MiB
    rest = memoryview(body)
    while rest:
        room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size)
        if room == 0:
            await client.read()
            continue
        await client.data(stream, bytes(rest[:room]))
        rest = rest[room:]
    await client.data(stream, b"", end=True)
    seen = await client.answer(stream)
    assert bytes(seen.body) == body


async def test_many_streams_are_served_side_by_side(start: Start) -> None:
    together = trio.Event()
    count = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        nonlocal count
        count += 1
        if count == 100:
            together.set()
        await together.wait()
        await ok(scope, receive, send)

    client = await (await start(app)).http2()
    streams = [await client.request() for _ in range(100)]
    for stream in streams:
        assert (await client.answer(stream)).ended


async def test_trailers_are_sent_where_they_were_announced(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        assert "http.response.trailers" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"ok"})
        await send({"type": "http.response.trailers", "headers": [(b"X-Sum", b"1")]})

    seen = await (await (await start(app)).http2()).get()
    assert (bytes(seen.body), seen.trailers, seen.ended) == (b"ok", [(b"x-sum", b"1")], True)


async def test_early_hints_come_before_the_answer(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await ok(scope, receive, send)

    client = await (await start(app)).http2()
    seen = await client.get()
    assert (seen.informational, seen.status) == ([b"103"], 200)


# ---- answers that do not end well


@pytest.mark.parametrize("how", ["raise", "return", "short", "long"])
async def test_broken_answer_resets_its_stream_and_leaves_no_stream_behind(start: Start, how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/ok":
            await ok(scope, receive, send)
            return
        headers = [(b"content-length", b"10")] if how in ("short", "long") else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if how == "raise":
            raise RuntimeError("broken")
        if how == "short":
            await send({"type": "http.response.body", "body": b""})
        if how == "long":
            await send({"type": "http.response.body", "body": b"x" * 7})

    client = await (await start(app)).http2()
    for _ in range(110):  # stock: each leaks a stream, and after a hundred nothing goes any more
        seen = await client.get(b"/broken")
        assert (bytes(seen.body), seen.ended, seen.reset) == (b"half", False, 2)  # INTERNAL_ERROR
    assert (await client.get(b"/ok")).ended


async def test_app_that_says_nothing_is_a_500(start: Start) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    assert (await (await (await start(silent)).http2()).get()).status == 500


# ---- flow control


async def test_memory_does_not_grow_with_a_body_that_a_shut_window_holds_back(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/ok":
            await ok(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3000):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})

    server = await start(app)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    client = await server.http2(greedy=False, window=0)
    for _ in range(5):
        await client.request(path=b"/large")
    await trio.sleep(0.3)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 5 * 1024  # KiB; stock: 300 MB each


async def test_body_that_one_app_does_not_read_holds_up_no_other_stream(start: Start) -> None:
    """Stock: twelve DATA frames that nobody reads stop the connection."""
    read_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await read_on.wait()
        await echo(scope, receive, send)

    client = await (await start(app)).http2()
    await client.until(lambda: client.h2.outbound_flow_control_window > 1_000_000)
    slow = [await client.request(b"POST", b"/slow", end=False) for _ in range(20)]
    for stream in slow:
        room = client.h2.local_flow_control_window(stream)
        assert room > 0
        for _ in range(10):
            await client.data(stream, b"x" * 5000)
    await client.until(lambda: client.h2.outbound_flow_control_window > 500_000)  # given back, though nobody has read
    quick = await client.request(b"POST", b"/quick", end=False)
    for _ in range(10):
        await client.data(quick, b"y" * 5000)
    await client.data(quick, b"", end=True)
    assert len((await client.answer(quick)).body) == 50_000
    read_on.set()
    for stream in slow:
        await client.data(stream, b"", end=True)
    for stream in slow:
        assert len((await client.answer(stream)).body) == 50_000


async def test_stream_window_opens_only_as_the_app_reads(start: Start) -> None:
    read_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await read_on.wait()
        await echo(scope, receive, send)

    client = await (await start(app, limits=Limits(request_buffer=65_535))).http2()
    await client.until(lambda: client.h2.remote_settings.initial_window_size == 65_535)
    stream = await client.request(b"POST", end=False)
    for size in (16_384, 16_384, 16_384, 16_383):
        await client.data(stream, bytes(size))
    with trio.move_on_after(0.05):
        while True:
            await client.read()
    assert client.h2.local_flow_control_window(stream) == 0
    read_on.set()
    await client.until(lambda: client.h2.local_flow_control_window(stream) > 0)
    await client.data(stream, b"", end=True)
    assert len((await client.answer(stream)).body) == 65_535


async def test_padding_is_given_back(start: Start) -> None:
    client = await (await start(echo)).http2()
    stream = await client.request(b"POST", end=False)
    for _ in range(2000):
        while client.h2.local_flow_control_window(stream) < 300:
            await client.read()
        client.h2.send_data(stream, b"", pad_length=255)
        await client.flush()
    await client.data(stream, b"", end=True)
    assert (await client.answer(stream)).ended


# ---- bodies that nobody reads


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"too large"})


async def test_upload_is_stopped_half_a_second_after_the_early_answer(
    start_in_memory: Start,
    autojump_clock: Any,
) -> None:
    client = await (await start_in_memory(refuse)).http2()
    stream = await client.request(b"POST", end=False)
    seen = client.seen[stream]
    await client.until(lambda: seen.ended)
    assert (seen.status, seen.reset, trio.current_time()) == (413, None, 0)
    await client.data(stream, b"x" * 1000)
    await client.until(lambda: seen.reset is not None)
    assert (seen.reset, trio.current_time()) == (0, 0.5)  # NO_ERROR


async def test_100_continue_goes_out_when_the_app_asks(start: Start) -> None:
    client = await (await start(echo)).http2()
    stream = await client.request(b"POST", b"/", (b"expect", b"100-continue"), end=False)
    await client.until(lambda: client.seen[stream].informational == [b"100"])
    await client.data(stream, b"hi", end=True)
    assert bytes((await client.answer(stream)).body) == b"hi"
    client = await (await start(refuse)).http2()
    stream = await client.request(b"POST", b"/", (b"expect", b"100-continue"), end=False)
    seen = client.seen[stream]
    await client.until(lambda: seen.ended)
    assert (seen.status, seen.informational) == (413, [])


# ---- how a connection ends


async def test_goaway_of_the_client_lets_its_streams_finish(start: Start) -> None:
    go_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await go_on.wait()
        await ok(scope, receive, send)

    client = await (await start(app)).http2()
    streams = [await client.request() for _ in range(3)]
    await client.raw(GoAwayFrame(0, last_stream_id=0, error_code=0).serialize())
    await trio.sleep(0.01)
    go_on.set()
    for stream in streams:
        assert bytes((await client.answer(stream)).body) == b"ok"
    await client.until_closed()


async def test_last_request_of_a_connection_is_answered_after_goaway(start: Start) -> None:
    client = await (await start(ok, config=quiet_config(keep_alive_max_requests=5))).http2()
    streams = [await client.request() for _ in range(8)]
    await client.until_closed()
    assert client.goaway is not None
    assert client.goaway.last_stream_id == streams[4]  # what is beyond it is safe to send again elsewhere
    assert [client.seen[stream].ended for stream in streams] == [True] * 5 + [False] * 3


async def test_idle_connection_is_told_goaway_and_closed(start_in_memory: Start, autojump_clock: Any) -> None:
    server = await start_in_memory(ok, limits=Limits(keep_alive_timeout=20))
    fresh = await server.http2()
    await fresh.until_closed()  # stock: prior knowledge without a stream has no idle clock
    assert trio.current_time() == 20
    client = await server.http2()
    await client.get()
    await client.until_closed()
    assert trio.current_time() == 40
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 1


# ---- floods


async def test_streams_beyond_the_limit_are_refused_and_the_others_served(start: Start) -> None:
    go_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await go_on.wait()
        await ok(scope, receive, send)

    client = await (await start(app, limits=Limits(max_streams=3))).http2()
    streams = [await client.request() for _ in range(5)]  # before it has seen our settings
    refused = [await client.answer(stream) for stream in streams[3:]]
    assert [s.reset for s in refused] == [7, 7]  # REFUSED_STREAM
    go_on.set()
    for stream in streams[:3]:
        assert (await client.answer(stream)).ended


async def test_rapid_reset_ends_the_connection(start: Start) -> None:
    calls = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        nonlocal calls
        calls += 1
        if scope["path"] == "/ok":
            await ok(scope, receive, send)
        await trio.sleep_forever()

    server = await start(app, limits=Limits(max_resets=50))
    client = await server.http2()
    for _ in range(300):
        stream = await client.request()
        client.h2.reset_stream(stream, 8)
    await client.flush()
    await client.until(lambda: client.goaway is not None)
    assert client.goaway is not None
    assert client.goaway.error_code == 11  # ENHANCE_YOUR_CALM
    assert calls <= 60
    other = await server.http2()
    assert (await other.get(b"/ok")).status == 200


async def test_apps_of_reset_streams_are_bounded(start: Start) -> None:
    running = 0

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        nonlocal running
        running += 1
        await trio.sleep_forever()

    client = await (await start(stubborn, limits=Limits(max_streams=5))).http2()
    for _ in range(40):
        stream = await client.request()
        client.h2.reset_stream(stream, 8)
    last = await client.request()
    assert (await client.answer(last)).reset == 7
    assert running == 10


@pytest.mark.parametrize("frame", [PingFrame(0, b"12345678"), SettingsFrame(0)], ids=["PING", "SETTINGS"])
async def test_client_that_asks_without_end_and_reads_nothing_is_held_back(
    start_in_memory: Start,
    autojump_clock: Any,
    frame: PingFrame | SettingsFrame,
) -> None:
    limits = Limits(client_timeout=5, max_control_frames=1_000_000)  # so that it is the room that runs out
    client = await (await start_in_memory(ok, limits=limits)).http2()
    sent = 0

    async def ask_on() -> None:
        nonlocal sent
        while True:
            await client.raw(frame.serialize() * 100)
            sent += 100 * 9

    with pytest.raises(trio.BrokenResourceError):
        await ask_on()
    assert trio.current_time() == pytest.approx(5)
    assert sent < 2_000_000


async def test_client_that_was_held_back_is_served_on_when_it_reads(start_in_memory: Start) -> None:
    client = await (await start_in_memory(ok, limits=Limits(max_control_frames=1_000_000))).http2()
    async with trio.open_nursery() as nursery:

        async def ask_on() -> None:
            for _ in range(300):
                await client.stream.send_all(PingFrame(0, b"12345678").serialize() * 100)

        nursery.start_soon(ask_on)
        await trio.testing.wait_all_tasks_blocked()  # everything between the two ends is full
        pongs = 0
        while pongs < 30_000 * 17:
            pongs += len(await client.stream.receive_some())
    assert pongs >= 30_000 * 17


@pytest.mark.parametrize("frame", [PingFrame(0, b"12345678"), SettingsFrame(0)], ids=["PING", "SETTINGS"])
async def test_client_that_asks_for_nothing_but_work_is_sent_away_and_others_are_served(
    start: Start, frame: PingFrame | SettingsFrame
) -> None:
    server = await start(ok)
    client = await server.http2()
    await client.raw(frame.serialize() * 2_000)
    await client.until(lambda: client.goaway is not None)
    assert client.goaway is not None
    assert client.goaway.error_code == 11  # ENHANCE_YOUR_CALM
    assert await server.is_alive()


async def test_continuation_without_end_is_refused(start: Start) -> None:
    client = await (await start(ok)).http2()
    client.h2.send_headers(1, [(b":method", b"GET")])
    data = bytearray(client.h2.data_to_send())
    data[4] &= ~0x4  # no END_HEADERS
    await client.raw(bytes(data))
    await client.raw(b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x00" * 100)
    await client.until(lambda: client.goaway is not None)


async def test_header_bomb_is_refused(start: Start) -> None:
    server = await start(ok)
    client = await server.http2()
    await client.request(b"GET", b"/", *[(b"x", b"y" * 1000)] * 100)  # small on the wire, 100 kB unpacked
    await client.until(lambda: client.goaway is not None)
    assert await server.is_alive()


async def test_data_on_an_idle_stream_ends_the_connection(start: Start) -> None:
    client = await (await start(ok)).http2()
    await client.raw(DataFrame(99, b"x").serialize())
    await client.until(lambda: client.goaway is not None)
    assert client.goaway is not None
    assert client.goaway.error_code == 1  # PROTOCOL_ERROR
    await client.aclose()
