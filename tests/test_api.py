"""The routes and the entry before them, on a virtual clock. What forwarding does is shown in ``tests/forward``."""

import re
from email.utils import parsedate_to_datetime
from itertools import islice

import httpx
import pytest
import trio
from trio.testing import MockClock

from gateway import __version__
from gateway.api import IDS_AT_ONCE, fresh_ids
from gateway.app import GatewayApp, create_app
from gateway.observe import Collector
from gateway.server import Limits
from gateway.testing.app import TWO_SERVICES, running_gateway
from gateway.testing.backend import Backend, respond
from gateway.testing.clients import http_client
from gateway.testing.network import MemoryNetwork

OWNED = [
    "/health",
    "/livez",
    "/readyz",
    "/api/gateway/status",
    "/api/gateway/services",
    "/api/gateway/openapi.json",
]
STOPPING = Limits(drain_delay=5)


def stock(app: GatewayApp) -> httpx.AsyncClient:
    """A client of a server that has none of our extensions."""
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Hypercorn's types spell each message out
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


# The endpoints of its own


@pytest.mark.parametrize("path", OWNED)
async def test_head_is_answered_with_the_fields_of_get_and_no_body(network: MemoryNetwork, path: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        get, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        if path not in ("/api/gateway/services", "/api/gateway/status"):  # their ages differ, and so may the length
            assert head.headers["content-length"] == get.headers["content-length"]
        assert [record.bytes_out for record in await gateway.logged(2)] == [len(get.content), 0]


@pytest.mark.parametrize("path", OWNED)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "FOO"])
async def test_other_method_is_405_and_told_which_are_allowed(network: MemoryNetwork, path: str, method: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", OWNED)
async def test_options_of_an_endpoint_tells_its_methods(network: MemoryNetwork, path: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        answer = await client.options(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


async def test_options_of_the_whole_server_is_answered_by_the_gateway(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, await gateway.raw_client() as client:
        await client.send(b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n")
        answer = await client.read_response()
        assert (answer.status, answer.get(b"allow"), answer.body) == (204, b"GET, HEAD, OPTIONS", b"")
        assert answer.get(b"x-request-id")


async def test_asterisk_is_for_options_alone(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, await gateway.raw_client() as client:
        await client.send(b"GET * HTTP/1.1\r\nHost: gateway\r\n\r\n")
        answer = await client.read_response()
        assert answer.status == 400
        assert b'"the target * is for OPTIONS alone"' in answer.body


async def test_connect_is_not_implemented() -> None:
    async with stock(create_app(TWO_SERVICES, sink=Collector())) as client:
        answer = await client.request("CONNECT", "/api/service1/x")
        assert (answer.status_code, answer.json()["error"]) == (501, "not_implemented")


@pytest.mark.parametrize(
    "path",
    [
        "/api/gateway",
        "/api/gateway/",
        "/api/gateway/nowhere",
        "/api/gateway/status/",
        "/api/gateway//status",
        "/api/gateway/%ff",
    ],
)
async def test_path_in_the_gateways_own_space_without_an_endpoint_is_404(network: MemoryNetwork, path: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        assert answer.json()["message"] == "the gateway has no such endpoint"


async def test_endpoint_has_no_use_for_a_body_and_the_connection_lives_on(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, await gateway.raw_client() as client:
        await client.send(b"GET /livez HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\n\r\nhello")
        assert (await client.read_response()).body == b"ok"
        await client.send(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await client.read_response()).body == b"ok"


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/api/service1/x", "/api/service2/x"])
async def test_sane_request_id_comes_back_and_stands_in_the_log(network: MemoryNetwork, path: str) -> None:
    async with (
        Backend(network, "service1", 8001, respond()),
        running_gateway(network) as gateway,
        gateway.client() as client,
    ):
        answer = await client.get(path, headers={"X-Request-ID": "trace-42"})
        assert answer.headers.get_list("x-request-id") == ["trace-42"]
        assert (await gateway.logged(1))[0].request_id == "trace-42"


@pytest.mark.parametrize("sent", [{}, {"X-Request-ID": "two words"}, {"X-Request-ID": "x" * 129}])
async def test_missing_or_unfit_request_id_is_replaced_by_a_fresh_one(
    network: MemoryNetwork, sent: dict[str, str]
) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        ids = {(await client.get("/health", headers=sent)).headers["x-request-id"] for _ in range(2)}
        assert ids == {record.request_id for record in await gateway.logged(2)}
        assert all(len(each) == 32 and int(each, 16) for each in ids)
        assert len(ids) == 2


@pytest.mark.parametrize("path", [*OWNED, "/nowhere"])
async def test_answer_of_its_own_has_exactly_one_date(network: MemoryNetwork, path: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        (date,) = (await client.get(path)).headers.get_list("date")
        assert date.endswith("GMT")
        assert parsedate_to_datetime(date)


@pytest.mark.parametrize("path", OWNED)
async def test_answer_about_now_is_never_stored(network: MemoryNetwork, path: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        assert (await client.get(path)).headers["cache-control"] == "no-store"


async def test_websocket_is_refused_with_403(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, await gateway.raw_client() as client:
        await client.send(
            b"GET /api/service1/x HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await client.read_response()).status == 403
        (record,) = await gateway.logged(1)
        assert (record.status_code, record.error) == (403, "WebSockets are not forwarded")


async def test_list_of_services_tells_name_prefix_and_verdict(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.delay("service1", 8001, 0.25)
    async with (
        Backend(network, "service1", 8001, respond()),
        running_gateway(network, probes=True) as gateway,
        gateway.client() as client,
    ):
        await trio.sleep(5)
        up, down = (await client.get("/api/gateway/services")).json()
        assert (up["name"], up["prefix"], up["status"]) == ("service1", "/api/service1", "configured")
        health = up["health"]
        assert (health["state"], health["latency_ms"], health["last_error"]) == ("up", 250, None)
        assert health["age_seconds"] == 5
        assert health["checked_at"] == health["since"]
        assert (down["name"], down["health"]["state"]) == ("service2", "down")
        assert down["health"]["last_error"] == "no connection: connection refused"
        assert down["health"]["latency_ms"] is None
        status = (await client.get("/api/gateway/status")).json()
        assert (status["status"], status["version"], status["services"]) == ("running", __version__, [up, down])


# Stages of life


async def stages(client: httpx.AsyncClient) -> tuple[int, str, int, str, str]:
    """Everything that tells the stage: health, readiness, the life and the status."""
    health, ready, live = await client.get("/health"), await client.get("/readyz"), await client.get("/livez")
    status = (await client.get("/api/gateway/status")).json()["status"]
    return health.status_code, health.json()["status"], ready.status_code, live.text, status


@pytest.mark.requirement("FR-005")
async def test_gateway_starts_runs_and_stops_and_health_tells_which(
    network: MemoryNetwork, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    network.black_hole("service1", 8001)

    async def look_while_it_starts() -> None:
        await trio.sleep(1)
        async with http_client(network) as client:
            assert await stages(client) == (503, "unhealthy", 503, "ok", "starting")
            assert (await client.get("/readyz")).text.splitlines()[0] == "[-]started failed"

    nursery.start_soon(look_while_it_starts)
    async with running_gateway(network, probes=True, limits=STOPPING) as gateway, gateway.client() as client:
        assert trio.current_time() == 2  # the first check had its whole time-out, and failed
        assert await stages(client) == (200, "healthy", 200, "ok", "running")
        gateway.stop()
        await trio.sleep(4)
        assert await stages(client) == (503, "unhealthy", 503, "ok", "stopping")
        assert "[-]not-stopping failed" in (await client.get("/readyz")).text


async def test_what_comes_in_the_drains_delay_is_still_forwarded(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async with (
        Backend(network, "service1", 8001, respond(body=b"hi")),
        running_gateway(network, limits=STOPPING) as gateway,
    ):
        gateway.stop()
        await trio.sleep(4)
        async with gateway.client() as client:
            assert (await client.get("/api/service1/x")).content == b"hi"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/livez?verbose", "[+]ping ok\n[+]tasks ok\nlivez check passed\n"),
        ("/readyz?verbose", "[+]started ok\n[+]not-stopping ok\n[+]tasks ok\nreadyz check passed\n"),
        ("/readyz?verbose=1&x", "[+]started ok\n[+]not-stopping ok\n[+]tasks ok\nreadyz check passed\n"),
        ("/livez?x", "ok"),
    ],
)
async def test_probe_lists_its_checks_when_asked(network: MemoryNetwork, path: str, text: str) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        answer = await client.get(path)
        assert (answer.text, answer.headers["content-type"]) == (text, "text/plain; charset=utf-8")


async def test_probe_whose_check_fails_lists_its_checks_unasked(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:
        gateway.app.gateway.crashed = True
        answer = await client.get("/livez")
        assert (answer.status_code, answer.text) == (503, "[+]ping ok\n[-]tasks failed\nlivez check failed\n")


def test_fresh_ids_are_never_the_same_twice() -> None:
    ids = [*islice(fresh_ids(), 3 * IDS_AT_ONCE)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rb"[0-9a-f]{32}", one) for one in ids)
