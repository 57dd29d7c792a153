from typing import Any

import pytest
import trio

from gateway.server import Limits

from .conftest import GET, Http1Client, Start, quiet_config

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


async def ok(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, once it has all of it."""
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Recorder:
    """Keeps the scopes it was called with."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.scopes.append(scope)
        await ok(scope, receive, send)


# ---- what the app gets


async def test_method_target_and_raw_fields_arrive_as_sent(start: Start) -> None:
    app = Recorder()
    server = await start(app, config=quiet_config(h11_pass_raw_headers=True))
    client = await server.http1()
    await client.send(b"get /a%2Fb//c;d=e? HTTP/1.1\r\nHost: a\r\nX-Odd-CASE:  v \r\nx-odd-case: w\r\n\r\n")
    await client.answer()
    scope = app.scopes[0]
    assert scope["method"] == "get"
    assert scope["raw_path"] == b"/a%2Fb//c;d=e"
    assert scope["query_string"] == b""
    assert scope["extensions"]["http.request.target"] == {"target": b"/a%2Fb//c;d=e?"}
    assert scope["headers"] == [(b"Host", b"a"), (b"X-Odd-CASE", b"v"), (b"x-odd-case", b"w")]
    assert scope["http_version"] == "1.1"
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"] == ("127.0.0.1", int(server.binds[0].rpartition(":")[2]))


async def test_field_names_are_lowered_by_default_as_asgi_says(start: Start) -> None:
    app = Recorder()
    client = await (await start(app)).http1()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Odd: v\r\n\r\n")
    await client.answer()
    assert app.scopes[0]["headers"] == [(b"host", b"a"), (b"x-odd", b"v")]


@pytest.mark.parametrize(
    ("framing", "pieces"),
    [
        (b"Content-Length: 6\r\n\r\n", [b"abc", b"def"]),
        (b"Transfer-Encoding: chunked\r\n\r\n", [b"3\r\nabc\r\n", b"3\r\nd", b"ef\r\n0\r\n", b"X-T: 1\r\n\r\n"]),
    ],
)
async def test_body_arrives_whole(start: Start, framing: bytes, pieces: list[bytes]) -> None:
    client = await (await start(echo)).http1()
    await client.send(POST + framing)
    for piece in pieces:
        await client.send(piece)
        await trio.sleep(0.01)
    assert (await client.answer())[2] == b"abcdef"
    await client.send(GET)  # and the connection goes on
    assert (await client.answer())[2] == b""


# ---- what the client gets


async def test_date_is_added_once_and_server_never(start: Start) -> None:
    async def dated(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        headers = [(b"DATE", b"then"), (b"Server", b"theirs")] if scope["path"] == "/dated" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    client = await (await start(dated)).http1()
    await client.send(GET)
    head = await client.until(b"ok")
    assert head.lower().count(b"\r\ndate: ") == 1
    assert b"server:" not in head.lower()
    await client.send(b"GET /dated HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await client.until(b"ok")
    assert b"\r\nDATE: then\r\n" in head
    assert head.lower().count(b"\r\ndate: ") == 1
    assert b"\r\nServer: theirs\r\n" in head


async def test_answer_of_unknown_length_goes_out_in_chunks_as_it_comes(start: Start) -> None:
    go_on = trio.Event()

    async def events(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"second"})

    client = await (await start(events)).http1()
    await client.send(GET)
    head = await client.until(b"5\r\nfirst\r\n")  # on the wire before there is a second
    assert b"\r\ntransfer-encoding: chunked\r\n" in head
    go_on.set()
    assert await client.until(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"


async def test_head_goes_out_with_an_empty_first_piece(start: Start) -> None:
    async def head_first(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await trio.sleep_forever()

    client = await (await start(head_first)).http1()
    await client.send(GET)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_old_client_gets_a_body_that_ends_with_the_connection(start: Start) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        await send({"type": "http.response.body", "body": b"b"})

    server = await start(stream)
    client = await server.http1()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.rest()).endswith(b"\r\n\r\nab")
    client = await server.http1()
    await client.send(b"GET /broken HTTP/1.0\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError):  # FIN would say that the body was whole
        await client.rest()


async def test_old_client_that_asks_to_keep_the_connection_keeps_it(start: Start) -> None:
    client = await (await start(ok)).http1()
    for _ in range(2):
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        _, fields, _ = await client.answer()
        assert fields[b"connection"] == b"keep-alive"


async def test_head_and_204_and_304_have_no_body(start: Start) -> None:
    async def talkative(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        status = int(scope["path"][1:])
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"body"})

    client = await (await start(talkative)).http1()
    await client.send(b"HEAD /200 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length: 4" in await client.until(b"\r\n\r\n")
    await client.send(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length" not in await client.until(b"\r\n\r\n")
    await client.send(b"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length: 4" in await client.until(b"\r\n\r\n")
    await client.send(b"GET /200 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer())[2] == b"body"


async def test_trailers_go_to_clients_that_take_them(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        takes = "http.response.trailers" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": takes})
        await send({"type": "http.response.body", "body": b"ok"})
        if takes:
            await send({"type": "http.response.trailers", "headers": [(b"X-Sum", b"1")]})

    client = await (await start(app)).http1()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: deflate, trailers\r\n\r\n")
    assert (await client.until(b"X-Sum: 1\r\n\r\n")).endswith(b"\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
    await client.send(GET)
    assert (await client.answer())[2] == b"ok"


async def test_body_goes_up_while_the_answer_comes_down(start: Start) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    client = await (await start(app)).http1()
    for _ in range(2):  # and the connection goes on
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for word in (b"one", b"two", b"six"):
            await client.send(b"3\r\n%s\r\n" % word)
            await client.until(b"3\r\n%s\r\n" % word)
        await client.send(b"0\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


# ---- answers that do not end well


async def break_off(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    how = scope["path"]
    length = [(b"content-length", b"10")] if "length" in how else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if how == "/nothing":
        return
    await send({"type": "http.response.body", "body": b"half", "more_body": how != "/length/short"})
    if how.endswith("raise"):
        raise RuntimeError("broken")
    if how == "/length/long":
        await send({"type": "http.response.body", "body": b"x" * 100})


@pytest.mark.parametrize("how", [b"/raise", b"/return", b"/length/raise", b"/length/return", b"/length/long"])
async def test_broken_answer_is_not_ended_cleanly(start: Start, how: bytes) -> None:
    client = await (await start(break_off)).http1()
    await client.send(b"GET " + how + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    said = await client.rest()
    assert b"half" in said
    assert not said.endswith(b"0\r\n\r\n")
    assert len(said.partition(b"\r\n\r\n")[2]) < 10


async def test_answer_shorter_than_its_length_is_not_ended_cleanly(start: Start) -> None:
    client = await (await start(break_off)).http1()
    await client.send(b"GET /length/short HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await client.rest() == b""


@pytest.mark.parametrize("how", ["raise", "return", "start"])
async def test_app_that_says_nothing_is_a_500_and_the_connection_goes_on(start: Start, how: str) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if how == "raise":
            raise RuntimeError("broken")
        if how == "start":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    client = await (await start(silent)).http1()
    for _ in range(2):
        await client.send(GET)
        assert (await client.answer())[0] == 500


# ---- many requests on one connection


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    client = await (await start(echo)).http1()
    await client.send(
        POST + b"Content-Length: 3\r\n\r\none" + POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n" + GET
    )
    assert [(await client.answer())[2] for _ in range(3)] == [b"one", b"two", b""]


async def test_connection_close_is_kept_both_ways(start: Start) -> None:
    async def closing(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Connection", b"close")]})
        await send({"type": "http.response.body", "body": b"ok"})

    for app, request in ((closing, GET), (ok, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")):
        client = await (await start(app)).http1()
        await client.send(request)
        said = await client.rest()
        assert said.count(b"\r\nconnection: close\r\n") == 1
        assert said.endswith(b"ok")


async def test_last_answer_is_not_lost_to_what_the_client_still_sends(start: Start) -> None:
    client = await (await start(ok)).http1()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await trio.sleep(0.01)
    for _ in range(20):
        await client.send(GET * 1000)  # to a closed socket: the kernel would answer with RST, and drop our answer
    assert (await client.rest()).endswith(b"ok")


async def test_connection_closes_after_so_many_requests(start: Start) -> None:
    client = await (await start(ok, config=quiet_config(keep_alive_max_requests=3))).http1()
    for n in range(3):
        await client.send(GET)
        assert (b"connection" in (await client.answer())[1]) == (n == 2)
    assert await client.rest() == b""


# ---- bodies that nobody reads


async def test_100_continue_goes_out_when_the_app_asks(start: Start) -> None:
    server = await start(echo)
    client = await server.http1()
    await client.send(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hi")
    assert (await client.answer())[2] == b"hi"


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"too large"})


async def test_body_can_be_refused_before_it_is_uploaded(start: Start) -> None:
    client = await (await start(refuse)).http1()
    await client.send(POST + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
    status, fields, _ = await client.answer()
    assert status == 413
    assert fields[b"connection"] == b"close"


async def test_client_that_uploads_anyway_reads_the_early_answer(start: Start) -> None:
    server = await start(refuse)
    client = await server.http1()
    await client.send(POST + b"Content-Length: 3000000\r\n\r\n")
    for _ in range(30):
        await client.send(b"x" * 100_000)  # a close with this unread would be a RST, and a lost answer
    assert (await client.answer())[0] == 413
    assert await client.rest() == b""


async def test_lingering_ends_after_two_seconds(start_in_memory: Start, autojump_clock: trio.testing.MockClock) -> None:
    client = await (await start_in_memory(refuse)).http1()
    began = trio.current_time()
    await client.send(POST + b"Content-Length: 3000000\r\n\r\n")

    async def upload_on() -> None:
        while True:
            await client.send(b"x")
            await trio.sleep(0.1)

    with pytest.raises(trio.BrokenResourceError):
        await upload_on()
    assert trio.current_time() - began == pytest.approx(2.1)


async def test_answer_without_reading_a_queued_body_does_not_deadlock(start: Start) -> None:
    """Stock: ten messages fill the channel, and the app's last send waits for itself."""

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(0.05)
        await refuse(scope, receive, send)

    client = await (await start(late)).http1()
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100)
    assert (await client.answer())[0] == 413


async def test_body_that_the_app_does_not_read_holds_the_client_back(
    start_in_memory: Start, autojump_clock: Any
) -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await trio.sleep_forever()

    client = await (await start_in_memory(deaf, limits=Limits(request_buffer=100_000))).http1()
    await client.send(POST + b"Content-Length: 1000000\r\n\r\n")
    sent = 0
    with trio.move_on_after(1):
        while sent < 1_000_000:
            await client.send(b"x" * 1000)
            sent += 1000
    assert 100_000 < sent < 300_000


# ---- the door


# One of each answer; `test_heads.py` has the table of all that is refused.
BAD_HEADS = {
    "both lengths": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    "large head": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000),
    "unknown coding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    "HTTP/2 in HTTP/1 clothes": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "head"), BAD_HEADS.values(), ids=BAD_HEADS)
async def test_ambiguous_head_is_refused_and_the_connection_closed(start: Start, status: int, head: bytes) -> None:
    app = Recorder()
    client = await (await start(app)).http1()
    await client.send(head + GET)
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert said.count(b"HTTP/1.1") == 1  # what follows is not taken for a request
    assert b"\r\nconnection: close\r\n" in said
    assert app.scopes == []


@pytest.mark.parametrize(
    "chunks", [b"x\r\n", b"3\nabc\n", b"-1\r\n", b"3\r\nabcd\r\n", b"3 ;\x01\r\n", b"0x3\r\nabc\r\n"]
)
async def test_malformed_chunks_end_the_request_with_400(start: Start, chunks: bytes) -> None:
    client = await (await start(echo)).http1()
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + GET)
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1


async def test_empty_lines_before_a_request_are_tolerated(start: Start) -> None:
    client = await (await start(ok)).http1()
    await client.send(b"\r\n\r\n" + GET)
    assert (await client.answer())[2] == b"ok"


# ---- clocks


async def test_idle_connection_is_closed_after_the_keep_alive_timeout(
    start_in_memory: Start, autojump_clock: Any
) -> None:
    client = await (await start_in_memory(ok, limits=Limits(keep_alive_timeout=20))).http1()
    await client.send(GET)
    await client.answer()
    began = trio.current_time()
    assert await client.rest() == b""
    assert trio.current_time() - began == 20


async def test_dribbled_head_is_a_408_after_the_header_timeout(start_in_memory: Start, autojump_clock: Any) -> None:
    client = await (await start_in_memory(ok, limits=Limits(header_timeout=10))).http1()
    await trio.sleep(5)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def dribble() -> None:
            for byte in GET[:-2]:
                await client.send(bytes([byte]))
                await trio.sleep(1)

        nursery.start_soon(dribble)
        said = await client.rest()
        assert said.startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - began == 10
        nursery.cancel_scope.cancel()


async def test_client_that_may_yet_speak_http2_has_the_header_timeout(
    start_in_memory: Start, autojump_clock: Any
) -> None:
    client = await (await start_in_memory(ok, limits=Limits(header_timeout=10))).http1()
    await trio.sleep(5)
    await client.send(b"PRI * HTTP")
    assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
    assert trio.current_time() == 15


async def test_app_may_take_as_long_as_it_likes(start_in_memory: Start, autojump_clock: Any) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await trio.sleep(80_000)
        await ok(scope, receive, send)

    client: Http1Client = await (await start_in_memory(slow)).http1()
    await client.send(GET)
    assert (await client.answer())[2] == b"ok"
