from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from gateway import __version__
from gateway.admin import Admin
from gateway.server import Beside, Limits
from gateway.serving import server_config
from gateway.testing.app import TWO_SERVICES, running_gateway
from gateway.testing.backend import Backend, hang, respond
from gateway.testing.clients import http_client, raw_client
from gateway.testing.network import MemoryNetwork


@asynccontextmanager
async def admin_of(network: MemoryNetwork, gateway: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the admin pages of a running gateway."""
    async with trio.open_nursery() as nursery:
        beside = Beside(Admin(gateway.app.gateway), [network.listen("admin", 9000)])
        nursery.start_soon(beside.serve, server_config(TWO_SERVICES), Limits())
        async with http_client(network, base_url="http://admin:9000") as client:
            yield client
        beside.stop()


async def test_figures_tell_what_has_ended_and_what_has_not(network: MemoryNetwork, autojump_clock: Any) -> None:
    async with (
        Backend(network, "service1", 8001, respond(body=b"hello")),
        Backend(network, "service2", 8002, hang()),
        running_gateway(network) as gateway,
        admin_of(network, gateway) as admin,
        gateway.client() as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(2):
            assert (await client.post("/api/service1/x", content=b"abc")).status_code == 200
        nursery.start_soon(client.get, "/api/service2/slow")
        await trio.sleep(1)
        answer = await admin.get("/metrics")
        nursery.cancel_scope.cancel()
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    for line in (
        'gateway_requests_total{service="service1",status="200",cause="ok"} 2',
        'gateway_requests_in_flight{service="service2"} 1',
        'gateway_request_body_bytes_total{service="service1"} 6',
        'gateway_response_body_bytes_total{service="service1"} 10',
        'gateway_request_duration_seconds_count{service="service1"} 2',
        'gateway_backend_connections{service="service1",state="leased"} 0',
        'gateway_backend_connections{service="service1",state="idle"} 1',
        'gateway_backend_connections{service="service2",state="leased"} 1',
        "gateway_log_lines_dropped_total 0",
    ):
        assert line in lines
    assert len(gateway.log) == 3  # what is asked here is not logged


async def test_exchanges_in_flight_are_told_with_their_phase_and_their_times(
    network: MemoryNetwork, autojump_clock: Any
) -> None:
    async with (
        Backend(network, "service1", 8001, hang()),
        running_gateway(network) as gateway,
        admin_of(network, gateway) as admin,
        gateway.client() as client,
        trio.open_nursery() as nursery,
    ):
        assert (await admin.get("/debug/exchanges")).json() == []
        network.black_hole("service2", 8002)
        nursery.start_soon(partial(client.get, "/api/service1/a?secret=1", headers={"x-request-id": "one"}))
        await trio.sleep(2)
        nursery.start_soon(partial(client.get, "/api/service2/b", headers={"x-request-id": "two"}))
        await trio.sleep(1)
        first, second = (await admin.get("/debug/exchanges")).json()
        nursery.cancel_scope.cancel()
    assert first == {
        "request_id": "one",
        "method": "GET",
        "path": "/api/service1/a",
        "client_ip": "127.0.0.1",
        "service": "service1",
        "phase": "first_byte",
        "age_ms": 3000,
        "left_ms": 27_000,
        "timings_ms": {"queue": 0, "connect": 0, "send": 0, "first_byte": 3000, "body": 0},
        "status_code": None,
        "bytes_in": 0,
        "bytes_out": 0,
    }
    assert (second["request_id"], second["phase"], second["age_ms"], second["left_ms"]) == (
        "two",
        "connect",
        1000,
        4000,
    )


async def test_health_is_the_same_as_on_the_public_listener(network: MemoryNetwork) -> None:
    async with (
        running_gateway(network) as gateway,
        admin_of(network, gateway) as admin,
        gateway.client() as client,
    ):
        for stopping in (False, True):
            if stopping:
                gateway.app.gateway.draining()
            for path in ("/health", "/livez", "/readyz", "/livez?verbose", "/readyz?verbose"):
                here, there = await admin.get(path), await client.get(path)
                assert here.status_code == there.status_code
                assert here.headers["content-type"] == there.headers["content-type"]
                if path == "/health":
                    assert here.json() | {"timestamp": ""} == there.json() | {"timestamp": ""}
                    assert here.json()["version"] == __version__
                else:
                    assert here.text == there.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/service1/x", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/debug/exchanges", 405),
    ],
)
async def test_anything_else_is_refused(network: MemoryNetwork, method: str, path: str, status: int) -> None:
    async with running_gateway(network) as gateway, admin_of(network, gateway) as admin:
        answer = await admin.request(method, path)
        assert answer.status_code == status
        assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)
        head = await admin.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")


async def test_websocket_is_refused(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, admin_of(network, gateway):
        client = await raw_client(network, "admin", 9000)
        async with client:
            await client.send(
                b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert (await client.read_response()).status == 403
