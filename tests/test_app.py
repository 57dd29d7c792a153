"""The wiring: what ``create_app`` makes of its settings, and what runs in the app's lifespan."""

import json
import resource
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
import trio
from fixture_common.certs import Authority
from hypercorn.config import Config
from trio.testing import MockClock

from gateway.app import GatewayApp, create_app, idle_for, transport_for
from gateway.config import ConfigError, Service, Settings
from gateway.errors import Cause
from gateway.observe import Collector
from gateway.server import serve
from gateway.testing.app import TWO_SERVICES, running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond, response
from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork
from gateway.transport import MAX_IDLE, BackendTransport

ONE = Service(name="service1", host="service1", port=8001)


@pytest.fixture
async def sockets() -> AsyncIterator[SocketNetwork]:
    network = SocketNetwork()
    yield network
    network.close()


class Probed(httpx.AsyncBaseTransport):
    """Answers so many checks of its health, then has a defect."""

    def __init__(self, good: int) -> None:
        self.good = good

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002 - the interface
        await trio.lowlevel.checkpoint()
        if self.good == 0:
            raise RuntimeError("a bug in the transport")
        self.good -= 1
        return httpx.Response(200)


@asynccontextmanager
async def client_of(app: GatewayApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the bare app: no server, no lifespan. Closes the app's connections at the end."""
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Hypercorn's types spell each message out
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    for upstream in app.gateway.upstreams.values():
        await upstream.transport.aclose()


# What is made of the settings


async def test_settings_come_from_the_environment_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sockets: SocketNetwork
) -> None:
    async with Backend(sockets, "shop", 80, respond(body=b"from the shop")):
        host, port = sockets.real_address("shop", 80)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GATEWAY_SERVICES", "shop")
        monkeypatch.setenv("SHOP_URL", f"http://{host}:{port}")
        async with client_of(create_app(sink=Collector())) as client:
            assert (await client.get("/api/shop/x")).text == "from the shop"


def test_faulty_environment_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVICE1_URL", "nonsense")
    with pytest.raises(ConfigError, match=r"^SERVICE1_URL: "):
        create_app()


async def test_path_of_the_services_url_goes_before_its_upstream_prefix() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=request.extensions["target"])

    service = Service(name="shop", host="shop", port=80, base_path="/v2", upstream_prefix="/rest")
    app = create_app(Settings(services=(service,)), transports={"shop": httpx.MockTransport(answer)}, sink=Collector())
    async with client_of(app) as client:
        assert (await client.get("/api/shop/x?y")).text == "/v2/rest/x?y"


@pytest.mark.requirement("FR-008")
async def test_each_service_has_its_own_clocks(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async def drips(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        while True:
            await conn.sleep(1)
            await conn.send(b"x")

    services = (
        Service(name="quick", host="hangs", port=80, timeout=2),
        Service(name="bounded", host="drips", port=80, timeout=30, deadline=4.5),
        Service(name="far", host="hole", port=80, timeout=30, connect_timeout=3),
    )
    network.black_hole("hole", 80)
    async with (
        Backend(network, "hangs", 80, hang()),
        Backend(network, "drips", 80, drips),
        running_gateway(network, Settings(services=services, timeout=20, connect_timeout=10)) as gateway,
        gateway.client() as client,
    ):
        assert (await client.get("/api/quick/x")).status_code == 504
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/bounded/x")
        assert (await client.get("/api/far/x")).status_code == 504
        ends = [(record.cause, record.duration_ms) for record in await gateway.logged(3)]
    timeout = Cause.BACKEND_TIMEOUT
    assert ends == [(timeout, 2000), (timeout, 4500), (timeout, 3000)]


async def test_backend_is_spoken_to_over_tls_with_the_certificates_that_are_set(
    tmp_path: Path, sockets: SocketNetwork
) -> None:
    authority = Authority(tmp_path)
    shown, client_pair = authority.issue(), authority.issue("gateway@example.com")
    server_side = authority.server_context(shown)
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.load_verify_locations(authority.ca_file)
    async with Backend(sockets, "service1", 443, respond(body=b"secret"), tls=server_side):
        host, port = sockets.real_address("service1", 443)
        service = Service(
            name="service1",
            scheme="https",
            host=host,
            port=port,
            ca_file=str(authority.ca_file),
            client_cert=str(client_pair.cert),
            client_key=str(client_pair.key),
        )
        async with client_of(create_app(Settings(services=(service,)), sink=Collector())) as client:
            assert (await client.get("/api/service1/x")).text == "secret"


async def test_backend_whose_certificate_nobody_trusts_is_503(tmp_path: Path, sockets: SocketNetwork) -> None:
    context = Authority(tmp_path).server_context()
    async with Backend(sockets, "service1", 443, respond(), tls=context) as backend:
        host, port = sockets.real_address("service1", 443)
        service = Service(name="service1", scheme="https", host=host, port=port)
        async with client_of(create_app(Settings(services=(service,)), sink=Collector())) as client:
            answer = await client.get("/api/service1/x")
    assert backend.requests == []
    assert (answer.status_code, answer.json()["phase"]) == (503, "connect")
    assert answer.json()["message"] == "service1: no connection to the backend: the TLS handshake failed"


@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
def test_certificate_that_cannot_be_read_is_an_error_at_once(tmp_path: Path, field: str) -> None:
    missing: dict[str, Any] = {field: str(tmp_path / "none.pem")}
    with pytest.raises(FileNotFoundError):
        transport_for(replace(ONE, scheme="https", **missing))


def test_log_is_json_on_standard_output_with_what_libraries_say(tmp_path: Path) -> None:
    code = """
import logging
from gateway.app import create_app
from gateway.config import Service, Settings
app = create_app(Settings(services=(Service(name="a", host="a", port=80),), log_level="WARNING"))
assert app.gateway.dropped_lines() == 0
logging.getLogger("some.library").warning("it is late")
logging.getLogger("some.library").info("it is early")
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)  # noqa: S603 - fixed
    (line,) = map(json.loads, told.stdout.splitlines())
    assert (line["level"], line["message"], line["logger"]) == ("WARNING", "it is late", "some.library")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None


# What runs in the lifespan


async def test_warnings_of_the_configuration_are_told_at_the_start(network: MemoryNetwork) -> None:
    settings = Settings(services=(ONE,), warnings=("GATEWAY_TIMEUOT is not a variable",))
    async with running_gateway(network, settings) as gateway:
        assert gateway.events[0] == {"level": "WARNING", "message": "GATEWAY_TIMEUOT is not a variable"}


async def test_transport_that_is_given_is_asked_for_its_health_too(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    transport = Probed(good=3)
    with pytest.raises(RuntimeError, match="a bug in the transport"):
        async with running_gateway(network, transports={"service1": transport}):
            await trio.sleep_forever()
    assert (transport.good, trio.current_time()) == (0, 30)


@pytest.mark.parametrize("good", [0, 2])
async def test_crash_of_the_health_monitor_ends_the_server_and_is_told(
    network: MemoryNetwork, autojump_clock: MockClock, good: int
) -> None:
    transports = {"service1": Probed(good), "service2": httpx.MockTransport(lambda _request: httpx.Response(200))}
    sink = Collector()
    app = create_app(TWO_SERVICES, transports=transports, sink=sink)
    with pytest.raises(RuntimeError, match="a bug in the transport"):
        await serve(app, Config(), listeners=[network.listen("gateway", 80)])
    assert trio.current_time() == good * 10
    told = sink.events[-1]
    assert (told["level"], told["message"]) == ("CRITICAL", "the health monitor crashed")
    assert "while checking the health of service 'service1'" in told["traceback"]
    assert app.gateway.crashed is True


async def test_crash_of_the_watch_over_idle_connections_ends_the_server_and_is_told(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    class Sloppy(BackendTransport):
        def sweep(self) -> NoReturn:
            raise RuntimeError("a bug in the sweep")

    transport = Sloppy(connect=network.connect)
    with pytest.raises(RuntimeError, match="a bug in the sweep"):
        async with running_gateway(network, transports={"service1": transport}) as gateway:
            await trio.sleep_forever()
    told = gateway.events[-1]
    assert (told["level"], told["message"]) == ("CRITICAL", "the watch over idle connections crashed")


async def test_idle_connection_that_its_backend_closes_is_dropped_without_a_request(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def closes_after_5_s(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(response())
        await conn.sleep(5)

    async with (
        Backend(network, "service1", 8001, closes_after_5_s),
        running_gateway(network) as gateway,
        gateway.client() as client,
    ):
        transport = gateway.transports["service1"]
        assert isinstance(transport, BackendTransport)
        await client.get("/api/service1/x")
        await trio.sleep(4.5)
        assert transport.idle == 1
        await trio.sleep(2)
        assert transport.idle == 0


async def test_health_is_asked_for_beside_an_exhausted_pool(sockets: SocketNetwork) -> None:
    checks = trio.Event()

    async def script(conn: Connection) -> None:
        while True:
            request = await conn.read_request()
            if request.target == b"/api/hangs":
                await conn.wait_closed()
            if len([each for each in backend.requests if each.target == b"/health"]) >= 3:
                checks.set()
            await conn.send(response())

    async with Backend(sockets, "service1", 8001, script) as backend:
        host, port = sockets.real_address("service1", 8001)
        service = Service(name="service1", host=host, port=port, max_connections=1)
        app = create_app(Settings(services=(service,), health_interval=0.02, health_timeout=1), sink=Collector())
        async with client_of(app) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "/api/service1/hangs")
            await backend.connection(0)
            async with lifespan(app):
                with trio.fail_after(5):
                    await checks.wait()
                (told,) = (await client.get("/api/gateway/services")).json()
                assert told["health"]["state"] == "up"
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def lifespan(app: GatewayApp) -> AsyncIterator[None]:
    """The app's lifespan, as a server that is none of ours runs it."""
    to_app, from_server = trio.open_memory_channel[Any](1)
    to_server, from_app = trio.open_memory_channel[Any](1)
    scope: Any = {"type": "lifespan", "asgi": {}, "state": {}}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, scope, from_server.receive, to_server.send)
        for stage in ("startup", "shutdown"):
            await to_app.send({"type": f"lifespan.{stage}"})
            assert (await from_app.receive())["type"] == f"lifespan.{stage}.complete"
            if stage == "startup":
                yield
        nursery.cancel_scope.cancel()


async def test_server_without_our_hooks_ends_it_cleanly_all_the_same() -> None:
    sink = Collector()
    transport = httpx.MockTransport(lambda _request: httpx.Response(200))
    app = create_app(TWO_SERVICES, transports={"service1": transport, "service2": transport}, sink=sink)
    async with lifespan(app):
        with trio.fail_after(5):
            while not sink.events:
                await trio.lowlevel.checkpoint()
    assert [event["message"] for event in sink.events] == [
        "the gateway is running",
        "the gateway is stopping",
        "the gateway has stopped",
    ]


@pytest.mark.parametrize(("workers", "stage"), [(1, "starting"), (2, "running")])
async def test_one_of_several_workers_has_swept_before_it_accepts(
    autojump_clock: MockClock, workers: int, stage: str
) -> None:
    async def hangs(_request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    transport = httpx.MockTransport(hangs)
    settings = Settings(services=(ONE,), workers=workers)
    app = create_app(settings, transports={"service1": transport}, sink=Collector())
    async with lifespan(app):
        assert app.gateway.stage == stage
        assert trio.current_time() == (0 if workers == 1 else 2)  # the check had its whole time-out


async def test_end_of_the_lifespan_closes_every_connection(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async with Backend(network, "service1", 8001, respond()) as backend:
        async with running_gateway(network) as gateway, gateway.client() as client:
            await client.get("/api/service1/x")
        assert await backend.connections[0].wait_closed() == 0
    assert gateway.events[-1]["message"] == "the gateway has stopped"


@pytest.mark.parametrize(
    ("descriptors", "services", "idle"),
    [(1024, 2, 128), (65_536, 1, MAX_IDLE), (resource.RLIM_INFINITY, 100, MAX_IDLE), (8, 100, 1), (1024, 0, 256)],
)
def test_idle_connections_take_a_quarter_of_the_descriptors_at_most(descriptors: int, services: int, idle: int) -> None:
    assert idle_for(descriptors, services) == idle
