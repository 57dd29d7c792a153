"""The clocks of an exchange, end to end: each ends it at exactly its time, and says so."""

from collections.abc import Callable

import httpx
import pytest
import trio
import trio.testing

from gateway.config import Settings
from gateway.errors import Cause, Phase
from gateway.testing.app import running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans

Make = Callable[..., Settings]
Clock = trio.abc.Clock

URL = "/api/service1/x"


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


# Two things at once


async def test_head_that_comes_in_the_turn_of_its_deadline_is_too_late(
    network: MemoryNetwork, settings: Make, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.autojump_threshold = 0

    async def late(conn: Connection) -> None:
        await conn.read_request()
        await conn.sleep(29.9)
        mock_clock.jump(0.2)  # the loop was busy: both are found in one turn
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await conn.wait_closed()

    async with (
        Backend(network, "service1", 8001, late),
        running_gateway(network, settings(timeout=30)) as gateway,
        gateway.client() as client,
    ):
        _, answer = await explained(client)
        (record,) = await gateway.logged(1)
    assert (answer.status_code, answer.json()["phase"]) == (504, "first_byte")
    assert (record.status_code, record.cause, record.phase) == (504, Cause.BACKEND_TIMEOUT, Phase.FIRST_BYTE)
    assert record.error == "the backend did not answer within 30 s"


@pytest.mark.parametrize("deadline", [None, 20.0])
async def test_client_that_reads_nothing_is_told_from_one_that_left(
    network: MemoryNetwork, settings: Make, autojump_clock: Clock, deadline: float | None
) -> None:
    network.buffer_size = 1000
    async with (
        Backend(network, "service1", 8001, respond(body=b"x" * 50_000)),
        running_gateway(network, settings(client_timeout=60, service={"deadline": deadline})) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /api/service1/x HTTP/1.1\r\nHost: example\r\n\r\n")
        (record,) = await gateway.logged(1)
    assert (record.status_code, record.cause) == (200, Cause.CLIENT_TOO_SLOW)
    assert record.duration_ms == (deadline or 60) * 1000
