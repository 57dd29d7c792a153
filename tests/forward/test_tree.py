"""One exchange from end to end, on the virtual clock: what crosses, and when and how it ends."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import trio

from gateway.config import Settings
from gateway.errors import Cause, Phase
from gateway.testing.app import running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond, response
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans

Make = Callable[..., Settings]
Clock = trio.abc.Clock

URL = "/api/service1/x"


# What crosses


@pytest.mark.requirement("FR-001")
async def test_service_segment_is_taken_off_and_the_rest_kept(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /api/service1//a%2Fb;c=d%20e?x=1&y=%3F HTTP/1.1\r\nHost: example\r\n\r\n")
        assert (await client.read_response()).status == 200
    assert backend.requests[0].target == b"/api//a%2Fb;c=d%20e?x=1&y=%3F"


@pytest.mark.requirement("FR-003")
async def test_bare_question_mark_is_kept(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /api/service1/x? HTTP/1.1\r\nHost: example\r\n\r\n")
        await client.read_response()
    assert backend.requests[0].target == b"/api/x?"


@pytest.mark.requirement("FR-003")
@pytest.mark.parametrize("method", ["GET", "get", "PURGE", "M-SEARCH"])
async def test_method_is_kept_as_it_is(network: MemoryNetwork, settings: Make, method: str) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"%s /api/service1/ HTTP/1.1\r\nHost: example\r\n\r\n" % method.encode())
        await client.read_response()
    assert backend.requests[0].method == method.encode()


@pytest.mark.requirement("FR-004")
@pytest.mark.parametrize("status", [200, 201, 301, 404, 418, 500, 503, 599])
async def test_answer_of_the_backend_comes_back_as_it_is(network: MemoryNetwork, settings: Make, status: int) -> None:
    fields = [(b"Set-Cookie", b"a=1"), (b"X-Thing", b"\xe9"), (b"Set-Cookie", b"b=2"), (b"Location", b"/elsewhere")]
    async with (
        Backend(network, "service1", 8001, respond(status, fields, b"body")),
        running_gateway(network, settings()) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(URL)
    assert (answer.status_code, answer.content) == (status, b"body")
    assert [field for field in answer.headers.raw if field in fields] == fields


@pytest.mark.parametrize("http2", [False, True])
async def test_bodies_cross_in_both_directions(network: MemoryNetwork, settings: Make, http2: bool) -> None:  # noqa: FBT001 -- a parameter
    async def echo(conn: Connection) -> None:
        while True:
            request = await conn.read_request()
            await conn.send(response(body=request.body))

    async def in_pieces() -> AsyncIterator[bytes]:
        for number in range(20):
            yield bytes([number]) * 10_000

    whole = b"".join([bytes([number]) * 10_000 for number in range(20)])
    async with Backend(network, "service1", 8001, echo) as backend, running_gateway(network, settings()) as gateway:
        client = gateway.h2_client() if http2 else gateway.client()
        async with client:
            assert (await client.post(URL, content=b"small")).content == b"small"
            assert (await client.post(URL, content=whole)).content == whole
            assert (await client.post(URL, content=in_pieces())).content == whole
            assert (await client.post(URL, content=b"")).content == b""
        records = await gateway.logged(4)
    assert [(record.bytes_in, record.bytes_out) for record in records] == [(n, n) for n in (5, 200_000, 200_000, 0)]
    assert backend.requests[2].get(b"transfer-encoding") == b"chunked"
    assert backend.requests[0].get(b"content-length") == b"5"


async def test_answer_streams_as_it_comes(network: MemoryNetwork, settings: Make, autojump_clock: Clock) -> None:
    async def events(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await conn.send(b"4\r\ntick\r\n")
            await conn.sleep(20)
        await conn.send(b"0\r\n\r\n")

    async with (
        Backend(network, "service1", 8001, events),
        running_gateway(network, settings(timeout=30)) as gateway,
        gateway.client() as client,
    ):
        start = trio.current_time()
        async with client.stream("GET", URL) as answer:
            arrived = [(trio.current_time() - start, piece) async for piece in answer.aiter_raw()]
    assert arrived == [(20.0 * n, b"tick") for n in range(5)]


async def test_answer_may_come_before_the_upload_ends(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def duplex(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for _ in range(2):
            await conn.send(await conn.read_exactly(2))
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, duplex),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\n\r\nab")
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await client.read_exactly(2) == b"ab"
        await client.sleep(50)  # longer than the backend's timeout: it is the client that is waited for
        await client.send(b"cd")
        assert await client.read_exactly(2) == b"cd"
        (record,) = await gateway.logged(1)
    assert record.cause is Cause.OK


async def test_answer_that_ends_before_the_upload_ends_the_upload(network: MemoryNetwork, settings: Make) -> None:
    async def refuse(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(response(401, [], b"no"))
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, refuse) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 9\r\n\r\npart")
        answer = await client.read_response()
        assert (answer.status, answer.body) == (401, b"no")
        await backend.connections[0].finished.wait()
        (record,) = await gateway.logged(1)
    assert (record.status_code, record.cause) == (401, Cause.OK)


async def test_trailers_reach_a_client_that_can_carry_them(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n1\r\na\r\n0\r\nDigest: x\r\n\r\n"
        )
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.h2_client() as client,
    ):
        answer = await client.get(URL, headers={"TE": "trailers"})
        (record,) = await gateway.logged(1)
    assert answer.content == b"a"
    assert record.cause is Cause.OK


async def test_slow_reader_does_not_hold_the_connection_of_a_small_answer(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    network.buffer_size = 1000
    async with (
        Backend(network, "service1", 8001, respond(body=b"x" * 20_000)),
        running_gateway(network, settings(service={"max_connections": 1})) as gateway,
        await gateway.raw_client() as slow,
        gateway.client() as quick,
    ):
        await slow.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        await slow.sleep(40)
        answer = await quick.get(URL)
        assert answer.status_code == 200


async def test_nonsense_along_with_the_head_is_still_answered_with_502(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(URL)
    assert (answer.status_code, answer.json()["phase"]) == (502, "body")


async def test_head_goes_out_before_the_body_comes(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await conn.sleep(20)
        await conn.send(b"ok")

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        await client.read_until(b"\r\n\r\n")
        assert trio.current_time() == start
        assert await client.read_exactly(2) == b"ok"
        assert trio.current_time() == start + 20


async def test_any_httpx_transport_can_stand_in_for_ours(network: MemoryNetwork, settings: Make) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, headers={"X-Target": request.url.raw_path.decode()}, content=b"mock")

    mocked = {"service1": httpx.MockTransport(answer)}
    async with running_gateway(network, settings(), transports=mocked) as gateway, gateway.client() as client:
        got = await client.post(URL + "?a=b", content=b"hello")
    assert (got.status_code, got.content, got.headers["x-target"]) == (202, b"mock", "/api/x?a=b")


# 100 Continue


async def test_body_waits_for_the_backend_to_say_continue(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.sleep(0.5)
        assert conn.received.endswith(b"\r\n\r\n")  # no byte of the body has come
        await conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await conn.read_body()
        await conn.send(response(body=b"thanks"))

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.read_response()).status == 100
        await client.send(b"body")
        assert (await client.read_response()).body == b"thanks"


async def test_backend_that_refuses_at_the_head_is_spared_the_body(network: MemoryNetwork, settings: Make) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_head()
        await conn.send(response(417))
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, script) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.read_response()).status == 417
        await backend.connections[0].finished.wait()
    assert backend.connections[0].received.endswith(b"\r\n\r\n")


async def test_backend_that_knows_no_continue_gets_the_body_after_a_second(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async with (
        Backend(network, "service1", 8001, respond(body=b"old")),
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        assert (await client.read_response()).status == 100
        assert trio.current_time() == start + 1
        await client.send(b"body")
        assert (await client.read_response()).body == b"old"


# The clocks: each ends the exchange at exactly its time, and says so


async def explained(client: httpx.AsyncClient, **request: object) -> tuple[float, httpx.Response]:
    start = trio.current_time()
    answer = await client.request("GET", URL, **request)  # type: ignore[arg-type] # handed through
    return trio.current_time() - start, answer


@pytest.mark.requirement("FR-008")
async def test_backend_that_never_answers_is_504_at_exactly_the_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async with (
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network, settings(timeout=30)) as gateway,
        gateway.client() as client,
    ):
        async with assert_no_orphans(network):
            start = trio.current_time()
            after, answer = await explained(client)
            assert after == 30
            assert await backend.connections[0].wait_closed() == start + 30
            await client.aclose()
        (record,) = await gateway.logged(1)
    facts = answer.json()
    assert (answer.status_code, facts["error"], facts["phase"]) == (504, "gateway_timeout", "first_byte")
    assert facts["message"] == "service1: the backend did not answer within 30 s"
    assert sum(facts["timings_ms"].values()) == pytest.approx(30_000)
    assert answer.headers["proxy-status"].startswith("api-gateway; error=http_response_timeout")
    assert (record.cause, record.phase, record.duration_ms) == (Cause.BACKEND_TIMEOUT, Phase.FIRST_BYTE, 30_000)


@pytest.mark.requirement("FR-008")
async def test_service_has_a_timeout_of_its_own(network: MemoryNetwork, settings: Make, autojump_clock: Clock) -> None:
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network, settings(timeout=30, service={"timeout": 7})) as gateway,
        gateway.client() as client,
    ):
        after, answer = await explained(client)
    assert (after, answer.status_code) == (7, 504)


async def test_head_that_drips_does_not_rearm_the_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def drip(conn: Connection) -> None:
        await conn.read_request()
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            await conn.send(bytes([byte]))
            await conn.sleep(1)

    async with (
        Backend(network, "service1", 8001, drip),
        running_gateway(network, settings(timeout=30)) as gateway,
        gateway.client() as client,
    ):
        after, answer = await explained(client)
    assert (after, answer.status_code) == (30, 504)


async def test_connection_that_never_comes_is_504_at_the_connect_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    network.black_hole("service1", 8001)
    async with running_gateway(network, settings(timeout=30)) as gateway, gateway.client() as client:
        after, answer = await explained(client)
    assert (after, answer.status_code, answer.json()["phase"]) == (5, 504, "connect")
    assert "connection_timeout" in answer.headers["proxy-status"]


async def test_connection_refused_is_503_with_retry_after(network: MemoryNetwork, settings: Make) -> None:
    async with running_gateway(network, settings()) as gateway, gateway.client() as client:
        answer = await client.get(URL)
        (record,) = await gateway.logged(1)
    facts = answer.json()
    assert (answer.status_code, facts["error"], facts["phase"]) == (503, "service_unavailable", "connect")
    assert facts["message"] == "service1: no connection to the backend: connection refused"
    assert answer.headers["retry-after"] == "1"
    assert record.cause is Cause.CONNECT_FAILED


async def test_pool_that_stays_full_is_503_at_the_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    answers = []
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network, settings(service={"timeout": 10, "max_connections": 1})) as gateway,
        gateway.client() as client,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            answers.append(await explained(client))

        nursery.start_soon(ask)
        nursery.start_soon(ask)
    answers.sort(key=lambda pair: pair[1].status_code)
    assert [(after, answer.status_code, answer.json()["phase"]) for after, answer in answers] == [
        (10, 503, "queue"),
        (10, 504, "first_byte"),
    ]
    assert "connection_limit_reached" in answers[0][1].headers["proxy-status"]


async def test_wait_for_a_connection_counts_against_the_same_clock(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    ends = []
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network, settings(service={"timeout": 10, "max_connections": 1})) as gateway,
        gateway.client() as client,
        trio.open_nursery() as nursery,
    ):

        async def ask(after: float) -> None:
            await trio.sleep(after)
            took, answer = await explained(client)
            ends.append((took, answer.json()["phase"], answer.json()["timings_ms"]["queue"]))

        nursery.start_soon(ask, 0)
        nursery.start_soon(ask, 4)
    # The second waits 6 s for the connection and has it for the 4 s that are left of its ten.
    assert ends == [(10, "first_byte", 0), (10, "first_byte", 6000)]


async def test_backend_silent_within_its_body_cuts_the_answer_at_its_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def stall(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, stall),
        running_gateway(network, settings(timeout=30)) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await client.read_to_end() == b"half"
        assert trio.current_time() == start + 30
        (record,) = await gateway.logged(1)
    assert (record.status_code, record.cause, record.phase) == (200, Cause.BACKEND_TIMEOUT, Phase.BODY)


async def test_deadline_bounds_an_answer_that_keeps_moving(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock
) -> None:
    async def endless(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await conn.send(b"1\r\nx\r\n")
            await conn.sleep(1)

    async with (
        Backend(network, "service1", 8001, endless),
        running_gateway(network, settings(service={"deadline": 12.5})) as gateway,
        gateway.client() as client,
    ):
        start = trio.current_time()
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(URL)
        assert trio.current_time() == start + 12.5
        (record,) = await gateway.logged(1)
    assert "deadline of 12.5 s" in (record.error or "")


@pytest.mark.parametrize(("first", "pieces"), [(b"", 0), (b"some", 3)])
async def test_client_too_slow_with_its_body_is_408_at_its_own_timeout(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock, first: bytes, pieces: int
) -> None:
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network, settings(timeout=5, client_timeout=60)) as gateway,
        await gateway.raw_client() as client,
    ):
        start = trio.current_time()
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 100\r\n\r\n" + first)
        for _ in range(pieces):
            await client.sleep(50)
            await client.send(b"more")
        answer = await client.read_response()
        assert trio.current_time() == start + 50 * pieces + 60
        (record,) = await gateway.logged(1)
    assert answer.status == 408
    assert b"the client sent nothing more of its body for 60 s" in answer.body
    assert record.cause is Cause.CLIENT_TOO_SLOW


# Where it is refused, and where it breaks


async def test_body_announced_over_the_limit_is_413_without_an_upload(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network, settings(max_body_size=1000)) as gateway,
        await gateway.raw_client() as client,
    ):
        head = b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head)
        answer = await client.read_response()
        (record,) = await gateway.logged(1)
    assert answer.status == 413
    assert b"larger than 1000 bytes" in answer.body
    assert backend.connections == []
    assert (record.cause, record.bytes_in) == (Cause.BODY_TOO_LARGE, 0)


@pytest.mark.parametrize("http2", [False, True])
async def test_body_that_grows_over_the_limit_is_413_and_the_backend_is_cut(
    network: MemoryNetwork,
    settings: Make,
    http2: bool,  # noqa: FBT001 -- a parameter
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    async with (
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network, settings(max_body_size=1000)) as gateway,
        gateway.h2_client() if http2 else gateway.client() as client,
    ):
        answer = await client.post(URL, content=endless())
        for connection in backend.connections:
            await connection.finished.wait()
    assert answer.status_code == 413


async def test_body_at_the_limit_passes(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()),
        running_gateway(network, settings(max_body_size=1000)) as gateway,
        gateway.client() as client,
    ):
        assert (await client.post(URL, content=b"x" * 1000)).status_code == 200


@pytest.mark.parametrize(
    ("bytes_of_the_backend", "cause", "error"),
    [
        (b"", Cause.BACKEND_BROKE_OFF, "bad_gateway"),
        (b"HTTP/1.1 200 OK\r\n", Cause.BACKEND_BROKE_OFF, "bad_gateway"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Cause.BAD_RESPONSE,
            "bad_gateway",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Cause.BAD_RESPONSE, "bad_gateway"),
    ],
)
async def test_backend_that_breaks_off_or_talks_nonsense_is_502(
    network: MemoryNetwork, settings: Make, bytes_of_the_backend: bytes, cause: Cause, error: str
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(bytes_of_the_backend or b"")

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(URL)
        (record,) = await gateway.logged(1)
    assert (answer.status_code, answer.json()["error"], record.cause) == (502, error, cause)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_answer_that_breaks_off_is_never_ended_cleanly(
    network: MemoryNetwork,
    settings: Make,
    answer: bytes,
    http2: bool,  # noqa: FBT001 -- a parameter
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(answer)

    async with (
        Backend(network, "service1", 8001, script),
        running_gateway(network, settings()) as gateway,
        gateway.h2_client() if http2 else gateway.client() as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(URL)
        (record,) = await gateway.logged(1)
        assert (await client.get("/health")).status_code == 200
    assert record.status_code == 200
    assert record.cause in (Cause.BACKEND_BROKE_OFF, Cause.BAD_RESPONSE)


async def test_ambiguous_request_is_400_and_reaches_nobody(network: MemoryNetwork, settings: Make) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network, settings()) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(
            b"POST /api/service1/x HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody"
        )
        assert (await client.read_response()).status == 400
    assert backend.connections == []
