"""Whole messages, byte for byte: all that this gateway writes, nothing left out of sight.

The cases look at one thing each; here stand some messages in full, as they come in and as they go out.
"""

import pytest
import trio

from gateway.testing.app import running_gateway
from gateway.testing.backend import Backend, Connection
from gateway.testing.network import MemoryNetwork

from .test_memory import SETTINGS

ADDED = (
    b"x-forwarded-for: 127.0.0.1\r\n"
    b"x-forwarded-host: wire.example\r\n"
    b"x-forwarded-proto: http\r\n"
    b"x-forwarded-prefix: /w\r\n"
    b"via: 1.1 api-gateway\r\n"
    b"x-request-id: r-1\r\n"
)
DATE = b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"
OURS = b"via: 1.1 api-gateway\r\nx-request-id: r-1\r\n"
GET = b"GET /w/x HTTP/1.1\r\nHost: wire.example\r\nX-Request-ID: r-1\r\n\r\n"
GET_THERE = b"GET /w/x HTTP/1.1\r\nHost: wire.example\r\n" + ADDED + b"\r\n"
FINE = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 4\r\n\r\nfine"
FINE_HERE = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 4\r\n" + OURS + b"\r\nfine"


@pytest.mark.parametrize(
    ("said", "arrives", "given", "comes"),
    [
        pytest.param(GET, GET_THERE, FINE, FINE_HERE, id="the plainest"),
        pytest.param(
            b"pUt /w//a%2Fb?x=%20&& HTTP/1.1\r\nX-B: 1\r\nhOst: wire.example\r\nX-A:\xe9\r\nX-b: \t2\t \r\n"
            b"Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-Request-ID: r-1\r\ncontent-LENGTH: 5\r\n\r\n"
            b"hello",
            b"pUt /w//a%2Fb?x=%20&& HTTP/1.1\r\nX-B: 1\r\nhOst: wire.example\r\nX-A: \xe9\r\nX-b: 2\r\n"
            b"content-LENGTH: 5\r\n" + ADDED + b"\r\nhello",
            FINE,
            FINE_HERE.replace(OURS, OURS + b"connection: close\r\n"),
            id="every spelling kept, every hop-by-hop field gone",
        ),
        pytest.param(
            b"POST /w/x HTTP/1.1\r\nHost: wire.example\r\nTransfer-Encoding: chunked\r\nX-Request-ID: r-1\r\n\r\n"
            b"0005;ext=1\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"POST /w/x HTTP/1.1\r\nHost: wire.example\r\n" + ADDED + b"transfer-encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            FINE,
            FINE_HERE,
            id="chunks framed anew, trailers kept",
        ),
        pytest.param(
            GET,
            GET_THERE,
            b"HTTP/1.1 404 Gone Fishing\r\nSet-Cookie: a\r\nset-cookie: b\r\nKeep-Alive: 5\r\n" + DATE + b"X-E: \r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
            + DATE
            + b"X-E: \r\n"
            + OURS
            + b"content-length: 5\r\n\r\nhello",
            id="answer in chunks that is whole at the first look has a length",
        ),
        pytest.param(
            GET,
            GET_THERE,
            b"HTTP/1.1 103 Hints\r\nLink: <a>\r\nConnection: x\r\n\r\nHTTP/1.1 204 No Content\r\n" + DATE + b"\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 No Content\r\n" + DATE + OURS + b"\r\n",
            id="hints, and an answer without content",
        ),
    ],
)
async def test_message_in_full(
    said: bytes,
    arrives: bytes,
    given: bytes,
    comes: bytes,
    network: MemoryNetwork,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(given)
        await conn.wait_closed()

    async with (
        Backend(network, "wire", 8001, script) as backend,
        running_gateway(network, SETTINGS) as gateway,
        await gateway.raw_client() as client,
    ):
        await client.send(said)
        assert await client.read_exactly(len(comes)) == comes
        assert backend.connections[0].received == arrives
        with trio.move_on_after(1):
            assert await client.receive() == b""
