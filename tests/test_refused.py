"""What the server refuses at the door is answered and logged as everything else is."""

import json

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from gateway.errors import Cause
from gateway.server import Limits
from gateway.testing.app import running_gateway
from gateway.testing.backend import Backend, hang, respond
from gateway.testing.network import MemoryNetwork
from gateway.testing.peer import PeerGoneError

Clock = trio.abc.Clock


@pytest.mark.requirement("FR-007")
@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (b"GET /x HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, "bad_request"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", 431, "header_fields_too_large"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, "not_implemented"),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
        (b"GET /x HTTP/3.0\r\nHost: a\r\n\r\n", 505, "http_version_not_supported"),
    ],
)
async def test_malformed_request_is_explained_and_logged(
    network: MemoryNetwork, request_bytes: bytes, status: int, code: str
) -> None:
    async with running_gateway(network) as gateway, await gateway.raw_client(source="192.0.2.7") as client:
        await client.send(request_bytes)
        answer = await client.read_response()
        facts = json.loads(answer.body)
        assert (answer.status, facts["status_code"], facts["error"]) == (status, status, code)
        assert facts["path"] in ("/x", "a:1")
        assert (answer.get(b"proxy-status") or b"").startswith(b"api-gateway; error=http_request_error")
        assert len(answer.all(b"date")) == 1
        assert answer.get(b"connection") == b"close"
        (record,) = await gateway.logged(1)
    assert (record.status_code, record.cause, record.client_ip) == (status, Cause.BAD_REQUEST, "192.0.2.7")
    assert record.request_id == facts["request_id"] == (answer.get(b"x-request-id") or b"").decode()
    assert record.error == facts["message"]


async def test_what_is_not_http_is_logged_without_method_and_path(network: MemoryNetwork) -> None:
    async with running_gateway(network) as gateway, await gateway.raw_client() as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert (await client.read_response()).status == 400
        (record,) = await gateway.logged(1)
    assert (record.method, record.path) == ("-", "-")


async def test_head_that_does_not_come_is_408_and_logged(network: MemoryNetwork, autojump_clock: Clock) -> None:
    async with (
        running_gateway(network, limits=Limits(header_timeout=10)) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /slow HTTP/1.1\r\nHost:")
        start = trio.current_time()
        answer = await client.read_response()
        assert trio.current_time() == start + 10
        assert (answer.status, json.loads(answer.body)["error"]) == (408, "request_timeout")
        (record,) = await gateway.logged(1)
    assert (record.cause, record.path) == (Cause.CLIENT_TOO_SLOW, "/slow")


async def test_malformed_request_over_http2_is_explained_and_its_neighbours_served(network: MemoryNetwork) -> None:
    async with (
        Backend(network, "service1", 8001, respond(body=b"ok")),
        running_gateway(network) as gateway,
        await gateway.raw_client() as raw,
    ):
        client = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        client.initiate_connection()
        sound = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/api/service1/x")]
        client.send_headers(1, [*sound[:3], (":path", "/a\x01b")], end_stream=True)
        client.send_headers(3, sound, end_stream=True)
        await raw.send(client.data_to_send())
        statuses: dict[int, str] = {}
        bodies: dict[int, bytes] = {1: b"", 3: b""}
        ended: set[int] = set()
        while ended != {1, 3}:
            for event in client.receive_data(await raw.receive()):
                match event:
                    case h2.events.ResponseReceived(stream_id=number, headers=fields):
                        statuses[number] = dict(fields)[b":status"].decode()
                    case h2.events.DataReceived(stream_id=number, data=data):
                        bodies[number] += data
                    case h2.events.StreamEnded(stream_id=number):
                        ended.add(number)
        refused, served = sorted(await gateway.logged(2), key=lambda record: record.status_code, reverse=True)
    assert statuses == {1: "400", 3: "200"}
    assert json.loads(bodies[1])["error"] == "bad_request"
    assert bodies[3] == b"ok"
    assert (refused.status_code, refused.protocol, served.cause) == (400, "HTTP/2", Cause.OK)


async def test_body_whose_framing_breaks_is_400_and_logged_once(network: MemoryNetwork) -> None:
    async with (
        Backend(network, "service1", 8001, hang()) as backend,
        running_gateway(network) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"POST /api/service1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await backend.connection(0)
        await client.send(b"xyz\r\n")
        answer = await client.read_response()
        assert (answer.status, json.loads(answer.body)["error"]) == (400, "bad_request")
        (record,) = await gateway.logged(1)
        await client.read_to_end()
    assert gateway.log == [record]
    assert (record.status_code, record.cause) == (400, Cause.BAD_REQUEST)


async def test_client_that_reads_nothing_more_is_too_slow_and_not_gone(
    network: MemoryNetwork, autojump_clock: Clock
) -> None:
    network.buffer_size = 1000
    async with (
        Backend(network, "service1", 8001, respond(body=b"x" * 1_000_000)),
        running_gateway(network, limits=Limits(client_timeout=20)) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(b"GET /api/service1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        (record,) = await gateway.logged(1)
        assert record.duration_ms == pytest.approx(20_000)
        with pytest.raises(PeerGoneError):
            await client.read_exactly(900_000)
    assert (record.cause, record.status_code) == (Cause.CLIENT_TOO_SLOW, 200)
