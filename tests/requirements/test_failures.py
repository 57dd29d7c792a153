"""What a client is told when something goes wrong, and when: FR-007, FR-008, SC-008."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trio

from gateway.testing.backend import Backend, Connection, hang
from gateway.testing.sockets import SocketNetwork

from .conftest import Running, both_protocols, curl, needs_curl, running, url_of

SOON = {"GATEWAY_TIMEOUT": "300ms", "GATEWAY_CLIENT_TIMEOUT": "300ms", "GATEWAY_HEALTH_TIMEOUT": "300ms"}
SECONDS = 5.0
"""The most that any failure may take to be told."""


async def faulty(conn: Connection) -> None:
    """A backend with a failure for every path."""
    request = await conn.read_head()
    match request.target:
        case b"/api/hangs" | b"/api/takes":
            await conn.wait_closed()
        case b"/api/nonsense":
            await conn.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")


@pytest.fixture
async def failing(sockets: SocketNetwork) -> AsyncIterator[Running]:
    """A gateway with short clocks before a faulty backend, and before none at all."""
    async with Backend(sockets, "service1", 80, faulty):
        environ = {"SERVICE1_URL": url_of(sockets, "service1"), "SERVICE2_URL": "http://127.0.0.1:1"}
        async with running({**environ, **SOON, "GATEWAY_MAX_BODY_SIZE": "1000"}) as gateway:
            yield gateway


def assert_explained(answer: httpx.Response, path: str, status: int, error: str) -> dict[str, Any]:
    """Check the body and the fields that every failure has; give the body."""
    told: dict[str, Any] = answer.json()
    assert answer.status_code == told["status_code"] == status
    assert (told["error"], told["path"]) == (error, path)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["proxy-status"].startswith("api-gateway; error=")
    assert answer.headers["x-request-id"] == told["request_id"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["timestamp"])) < timedelta(seconds=SECONDS)
    assert told["timestamp"].endswith("Z")
    assert told["message"]
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "127.0.0.1" not in answer.text + repr(answer.headers)
    return told


@pytest.mark.requirement("FR-007", "SC-008")
@both_protocols
@pytest.mark.parametrize(
    ("path", "status", "error", "phase"),
    [
        ("/nowhere", 404, "not_found", None),
        ("/api/gateway/nowhere", 404, "not_found", None),
        ("/api/service1x/y", 404, "not_found", None),
        ("/api/service1/%2e%2e/secret", 400, "bad_request", None),
        ("/api/service1/breaks-off", 502, "bad_gateway", "first_byte"),
        ("/api/service1/nonsense", 502, "bad_gateway", "first_byte"),
        ("/api/service2/x", 503, "service_unavailable", "connect"),
        ("/api/service1/hangs", 504, "gateway_timeout", "first_byte"),
    ],
)
async def test_failure_is_explained_in_time(
    failing: Running,
    http2: bool,  # noqa: FBT001 - as above
    path: str,
    status: int,
    error: str,
    phase: str | None,
) -> None:
    async with failing.client(http2=http2) as client:
        began = trio.current_time()
        answer = await client.get(failing.url, extensions={"target": path.encode()})
        assert trio.current_time() - began < SECONDS
    told = assert_explained(answer, path, status, error)
    assert told.get("phase") == phase
    assert told.get("service") == (path.split("/")[2] if phase else None)
    if phase:
        assert sum(told["timings_ms"].values()) == pytest.approx(answer.elapsed.total_seconds() * 1000, abs=100)


@pytest.mark.requirement("FR-007", "SC-008")
@both_protocols
async def test_body_over_the_limit_is_413(
    failing: Running,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    async with failing.client(http2=http2) as client:
        began = trio.current_time()
        answer = await client.post("/api/service1/takes", content=bytes(1001))
        assert trio.current_time() - began < SECONDS
    assert_explained(answer, "/api/service1/takes", 413, "payload_too_large")


@needs_curl
@pytest.mark.requirement("FR-007")
async def test_413_is_told_before_the_upload_where_the_client_waits(failing: Running) -> None:
    figures = "\n%{http_code} %{size_upload}"
    upload = ("--header", "Expect: 100-continue", "--data-binary", "@-", "--write-out", figures)
    out = await curl("--http1.1", *upload, f"{failing.url}/api/service1/takes", stdin=bytes(3_000_000))
    body, _, told = out.rpartition(b"\n")
    assert told == b"413 0"
    assert json.loads(body)["error"] == "payload_too_large"


@pytest.mark.requirement("FR-007", "SC-008")
async def test_client_that_is_too_slow_with_its_body_is_408(failing: Running) -> None:
    async def dribble() -> AsyncIterator[bytes]:
        yield b"a"
        await trio.sleep(0.5)
        yield b"b"

    async with failing.client() as client:
        began = trio.current_time()
        answer = await client.post("/api/service1/takes", content=dribble())
        assert trio.current_time() - began < SECONDS
    assert_explained(answer, "/api/service1/takes", 408, "request_timeout")


@needs_curl
@pytest.mark.requirement("FR-007", "SC-008")
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
async def test_request_that_the_drain_cuts_is_503(
    sockets: SocketNetwork, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    # Not httpx: over HTTP/2 it takes the GOAWAY of a drain for the end of what is in flight.
    answers = []

    async def ask(gateway: Running) -> None:
        answers.append(await curl(protocol, "--include", f"{gateway.url}/api/service1/hangs"))

    async with Backend(sockets, "service1", 80, faulty) as backend:
        environ = {"SERVICE1_URL": url_of(sockets, "service1"), "GATEWAY_DRAIN_TIMEOUT": "200ms"}
        async with running(environ) as gateway:
            nursery.start_soon(ask, gateway)
            await backend.connection(1)  # the first was the health check's
            gateway.stop.set()
            began = trio.current_time()
        assert trio.current_time() - began < SECONDS
    (record,) = gateway.log.records
    assert (record.status_code, record.cause) == (503, "drained")
    while not answers:  # noqa: ASYNC110 - curl's end has no event
        await trio.sleep(0.001)
    head, _, body = answers[0].partition(b"\r\n\r\n")
    assert head.split()[1] == b"503"
    assert b"retry-after: 1" in head.lower()
    assert b"proxy-status: api-gateway; error=" in head.lower()
    assert json.loads(body)["error"] == "service_unavailable"
    assert not [line for line in caplog.records if line.levelname in {"ERROR", "CRITICAL"}]


@pytest.mark.requirement("FR-008")
@both_protocols
async def test_backend_that_does_not_answer_is_504_after_its_own_timeout_and_its_connection_is_closed(
    sockets: SocketNetwork,
    http2: bool,  # noqa: FBT001 - as above
) -> None:
    seconds = {"service1": 0.6, "service2": 0.2}
    async with Backend(sockets, "service1", 80, hang()) as first, Backend(sockets, "service2", 80, hang()) as second:
        environ = {
            "GATEWAY_TIMEOUT": "600ms",
            "SERVICE2_TIMEOUT": "200ms",
            "GATEWAY_HEALTH_TIMEOUT": "100ms",
            **{f"{name.upper()}_URL": url_of(sockets, name) for name in seconds},
        }
        async with running(environ) as gateway, gateway.client(http2=http2) as client:
            for name, backend in (("service1", first), ("service2", second)):
                began = trio.current_time()
                answer = await client.get(f"/api/{name}/slow")
                took = trio.current_time() - began
                assert (answer.status_code, answer.json()["phase"]) == (504, "first_byte")
                assert answer.json()["message"].endswith(f"did not answer within {seconds[name]:g} s")
                assert seconds[name] <= took < seconds[name] + 0.4
                with trio.fail_after(1):
                    # The first connection was the health check's.
                    closed = await (await backend.connection(1)).wait_closed()
                assert closed - began < took + 0.1


@pytest.mark.requirement("FR-008")
async def test_service_that_is_slow_but_in_time_is_waited_for(services: dict[str, str]) -> None:
    async with running({**services, "GATEWAY_TIMEOUT": "500ms"}) as gateway, gateway.client() as client:
        assert (await client.get("/api/service1/slow?seconds=0.2")).json() == {"slept": 0.2}
        assert (await client.get("/api/service1/slow?seconds=5")).status_code == 504
        # The clock is for each wait, not for the whole: what moves may go on.
        assert len((await client.get("/api/service1/stream?chunks=4&delay=0.2")).text.splitlines()) == 4
