import ssl
from pathlib import Path

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock

from gateway.config import Service, Settings
from gateway.errors import Cause
from gateway.server import Limits
from gateway.testing.app import NetworkTransport, running_gateway
from gateway.testing.backend import Backend, Connection, hang, respond, response
from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import assert_no_orphans
from gateway.testing.sockets import SocketNetwork

AnyNetwork = MemoryNetwork | SocketNetwork


async def test_both_protocols_pass_through_the_gateway(each_network: AnyNetwork) -> None:
    async with (
        assert_no_orphans(*([each_network] if isinstance(each_network, MemoryNetwork) else []), grace=1),
        Backend(each_network, "service1", 8001, respond(body=b"hi")) as backend,
        running_gateway(each_network) as gateway,
    ):
        for make in (gateway.client, gateway.h2_client):
            async with make() as client:
                answer = await client.get("/api/service1/orders?x=1")
                assert (answer.status_code, answer.content) == (200, b"hi")
        records = await gateway.logged(2)
        assert [(record.protocol[:6], record.cause) for record in records] == [("HTTP/1", "ok"), ("HTTP/2", "ok")]
        assert [request.target for request in backend.requests] == [b"/api/orders?x=1"] * 2
        assert [event["message"] for event in gateway.events] == ["the gateway is running"]


@pytest.mark.parametrize("http2", [False, True])
async def test_timeout_ends_at_exactly_its_time(
    http2: bool,  # noqa: FBT001 - a column of the table
    network: MemoryNetwork,
    autojump_clock: MockClock,
) -> None:
    async with (
        assert_no_orphans(network),
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network) as gateway,
        (gateway.h2_client if http2 else gateway.client)() as client,
    ):
        answer = await client.get("/api/service1/slow")
        assert (answer.status_code, trio.current_time()) == (504, 30)
        assert await backend.connections[0].wait_closed() == 30
        (record,) = await gateway.logged(1)
        assert (record.cause, record.duration_ms) == (Cause.BACKEND_TIMEOUT, 30_000)


async def test_raw_client_comes_from_where_it_is_told(network: MemoryNetwork) -> None:
    async with (
        Backend(network, "service1", 8001, respond()) as backend,
        running_gateway(network) as gateway,
        await gateway.raw_client(source="192.0.2.7") as client,
    ):
        await client.send(b"GET /api/service1/a%2Fb HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await client.read_response()).status == 200
        assert backend.requests[0].target == b"/api/a%2Fb"
        assert backend.requests[0].get(b"x-forwarded-for") == b"192.0.2.7"


async def test_log_can_be_waited_for(network: MemoryNetwork, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with running_gateway(network) as gateway, gateway.client() as client:

        async def get_later() -> None:
            await trio.sleep(2)
            await client.get("/nowhere")

        nursery.start_soon(get_later)
        (record,) = await gateway.logged(1)
        assert (record.cause, trio.current_time()) == (Cause.NO_ROUTE, 2)


async def test_probes_reach_the_backends_only_when_asked_for(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    settings = Settings(services=(Service(name="service1", host="service1", port=8001),), health_interval=5)
    async with Backend(network, "service1", 8001, respond()) as backend:
        async with running_gateway(network, settings):
            await trio.sleep(12)
        assert backend.connections == []
        async with running_gateway(network, settings, probes=True) as gateway, gateway.client() as client:
            await trio.sleep(12)
            await client.get("/api/service1/x")
        assert [request.target for request in backend.requests] == [b"/health"] * 3 + [b"/api/x"]


async def test_gateway_begins_after_the_first_sweep_of_probes(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.black_hole("service1", 8001)
    async with Backend(network, "service2", 8002, respond()), running_gateway(network, probes=True) as gateway:
        assert trio.current_time() >= 2
        async with gateway.client() as client:
            services = (await client.get("/api/gateway/services")).json()
    assert [service["health"]["state"] for service in services] == ["down", "up"]


async def test_stop_drains_what_is_in_flight(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async def slow(conn: Connection) -> None:
        await conn.read_request()
        await conn.sleep(7)
        await conn.send(response(body=b"late"))
        await conn.wait_closed()

    answers: list[httpx.Response] = []

    async def get(client: httpx.AsyncClient) -> None:
        answers.append(await client.get("/api/service1/x"))

    async with (
        Backend(network, "service1", 8001, slow),
        running_gateway(network) as gateway,
        gateway.client() as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(get, client)
        await trio.sleep(1)
        gateway.stop()
        assert await gateway.wait_stopped() == 7
    assert [answer.content for answer in answers] == [b"late"]


async def test_end_of_the_block_drains_and_its_failure_cancels(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def fail() -> None:
        async with running_gateway(network) as gateway, await gateway.raw_client() as client:
            await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\n")
            await trio.sleep(1)
            raise ZeroDivisionError

    async with assert_no_orphans(network), Backend(network, "service1", 8001, hang()):
        with pytest.raises(ZeroDivisionError):
            await fail()
    assert trio.current_time() == 1


async def test_transports_limits_and_addresses_can_be_replaced(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    mock = httpx.MockTransport(lambda _request: httpx.Response(418, text="short and stout"))
    async with (
        running_gateway(
            network, host="other", port=8080, transports={"service1": mock}, limits=Limits(keep_alive_timeout=3)
        ) as gateway,
        await gateway.raw_client() as client,
    ):
        assert gateway.transports["service1"] is mock
        assert isinstance(gateway.transports["service2"], NetworkTransport)
        await client.send(b"GET /api/service1/tea HTTP/1.1\r\nHost: g\r\n\r\n")
        answer = await client.read_response()
        assert (answer.status, answer.body) == (418, b"short and stout")
        assert await client.wait_closed() == 3
    assert ("other", 8080) in network.connects


@pytest.mark.parametrize("http2", [False, True])
async def test_tls_on_both_sides(http2: bool, each_network: AnyNetwork, tmp_path: Path) -> None:  # noqa: FBT001 - a column of the table
    authority = trustme.CA()
    served, backends, ours = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("gateway").configure_cert(served)
    served.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert("service1").configure_cert(backends)
    authority.configure_trust(ours)
    authority.configure_trust(backends)
    backends.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("gateway")
    ca_file, client_cert, client_key = (str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key"))
    authority.cert_pem.write_to_path(ca_file)
    mine.cert_chain_pems[0].write_to_path(client_cert)
    mine.private_key_pem.write_to_path(client_key)
    service = Service(
        name="service1",
        scheme="https",
        host="service1",
        port=8443,
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
    )
    async with (
        Backend(each_network, "service1", 8443, respond(body=b"secret"), tls=backends),
        running_gateway(each_network, Settings(services=(service,)), port=443, tls=served) as gateway,
        (gateway.h2_client if http2 else gateway.client)(tls=ours) as client,
    ):
        answer = await client.get("/api/service1/x")
        assert (answer.content, answer.http_version) == (b"secret", "HTTP/2" if http2 else "HTTP/1.1")
