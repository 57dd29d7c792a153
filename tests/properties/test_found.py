"""What the properties have found in the gateway, each by itself."""

from typing import Any

import pytest

from gateway.testing.app import running_gateway
from gateway.testing.network import MemoryNetwork

from . import strict
from .messages import Ask, Reply
from .profile import run
from .strict import End
from .world import Exchange, Http2Client, exchange


def test_cookie_over_http2_stays_where_it_was_among_the_fields() -> None:
    # hyper-h2 joins the crumbs of a cookie, and puts what comes of it behind all other fields.
    ask = Ask(fields=[(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2"), (b"x-last", b"1")])
    (((asked,), _),) = run(exchange, [Exchange(ask, Reply().http1(), version=2)])
    fields = [field for field in asked.fields if field[0] in (b"cookie", b"accept", b"x-last")]
    assert fields == [(b"cookie", b"a=1; b=2"), (b"accept", b"*/*"), (b"x-last", b"1")]


def test_304_that_announces_trailers_ends_with_its_head_over_http2() -> None:
    # It says how long the body would be and has none: hyper-h2 takes an empty DATA frame behind it for a lie.
    answer = b"HTTP/1.1 304 \r\nTrailer: X-Check\r\nContent-Length: 1\r\n\r\n"
    ((_, seen),) = run(exchange, [Exchange(Ask(), answer, version=2)])
    assert (seen.final.status, seen.answer.whole) == (304, True)


@pytest.mark.parametrize("version", [1, 2])
async def test_refusal_of_a_head_request_has_no_body_however_malformed_its_target(
    version: int, network: MemoryNetwork, autojump_clock: Any
) -> None:
    # A body in answer to HEAD is an error of the connection for an HTTP/2 client: all its other streams went with it.
    target = b"/api/service1/\xff"
    async with running_gateway(network) as gateway, await gateway.raw_client() as peer:
        if version == 1:
            await peer.send(b"HEAD %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            answer = strict.answer(await peer.read_to_end(), b"HEAD", End.FIN)
            assert answer.rest == b""
        else:
            client = Http2Client(peer)
            fields = [(b":method", b"HEAD"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", target)]
            client.h2.send_headers(1, fields, end_stream=True)
            await client.flush()
            while not client.stream(1).over:
                await client.receive()
            answer = client.seen(1).answer
        assert answer.final is not None
        assert (answer.final.status, answer.final.body) == (400, b"")
