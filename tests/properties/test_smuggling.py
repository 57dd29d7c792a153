"""Whatever a client sends, a backend gets no request that is not in the client's bytes.

Over HTTP/1.1 an independent reader says which requests there are in the stream; what the backend has must be among
them, in their order, each once. Over HTTP/2 a stream is one request, whatever stands in its fields; written down as
HTTP/1.1 it must still be that one, or none. A request of which the backend has only a part is one that broke off.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import trio
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.testing.backend import Connection
from gateway.testing.peer import PeerGoneError

from . import crossing, strict
from .crossing import without
from .messages import PREFIX, UPSTREAM_PREFIX, asks, cuts, tokens, values
from .mutants import ODD_CHUNKS, ODD_FIELDS, ODD_REQUEST_LINES, odd_requests
from .profile import examples, run
from .strict import Fields, Message
from .world import MOMENT, Http2Client, Requests, Seen, send_in_packets, world

ADDED = (
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-prefix",
    b"x-request-id",
    b"via",
    b"te",
    b"connection",
)
FRAMING = (b"content-length", b"transfer-encoding", b"host")


def echo(message: Message) -> bytes:
    """An answer that says whose it is."""
    body = message.start[1]
    return b"HTTP/1.1 200 \r\nContent-Length: %d\r\n\r\n%s" % (len(body), b"" if message.start[0] == b"HEAD" else body)


def upstream_target(target: bytes) -> bytes | None:
    """What a target is for the backend, from the contract: the prefix replaced, an authority cut off; or None."""
    match = re.fullmatch(rb"(?:https?://[^/?]+)?(/.*)", target, re.IGNORECASE)
    if match is None or not match[1].startswith(PREFIX):
        return None
    return UPSTREAM_PREFIX + match[1].removeprefix(PREFIX)


def is_the_same(sent: Message, got: Message, *, http2: bool) -> bool:
    """Whether ``got`` is ``sent`` after its way through; as much of it as there is."""
    if sent.start[0] != got.start[0] or upstream_target(sent.start[1]) != got.start[1]:
        return False
    expected = crossing.to_backend(sent.start[0], sent.fields, http2=http2)
    if without(expected, *ADDED, *FRAMING) != without(got.fields, *ADDED, *FRAMING):
        return False
    return sent.body == got.body if got.whole else sent.body.startswith(got.body)


def requests_in(streams: Iterable[bytes]) -> list[Message]:
    """Everything that the backend was sent, connection by connection, by the independent reader."""
    found = []
    for stream in streams:
        messages, wrong = strict.requests(stream)
        assert wrong is None, f"the backend was sent nonsense: {wrong} in {stream!r}"
        found += messages
    return found


class Stream(NamedTuple):
    """What one client says."""

    data: bytes
    packets: list[int]
    early: bool
    """The backend answers before it has read a body."""


async def send(several: list[Stream]) -> list[list[Message]]:
    """Send each on a connection of its own, one after another; give what the backend had of each."""
    current = several[0]

    async def script(conn: Connection) -> None:
        requests = Requests(conn)
        while True:
            message = await requests.next(head=current.early)
            await conn.send(echo(message))
            if current.early:
                await requests.next()

    found = []
    async with world(script) as (gateway, backend):
        for current in several:
            before = {conn: len(conn.received) for conn in backend.connections}
            async with await gateway.raw_client() as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.read_to_end)
                with suppress(PeerGoneError):
                    await send_in_packets(client, current.data, current.packets)
                await client.sleep(MOMENT)
                nursery.cancel_scope.cancel()
            await trio.sleep(MOMENT)
            found.append(requests_in(conn.received[before.get(conn, 0) :] for conn in backend.connections))
    return found


@examples(150)
@given(stream=odd_requests(asks(version=1, largest=100)), lengths=cuts, early=st.booleans())
def test_backend_gets_no_request_that_is_not_in_the_bytes_of_the_client(
    stream: bytes,
    lengths: list[int],
    early: bool,  # noqa: FBT001 - drawn
) -> None:
    (got,) = run(send, [Stream(stream, lengths, early)])
    judge(stream, got)


def judge(stream: bytes, got: list[Message]) -> None:
    contained, _ = strict.requests(stream)
    left = iter(contained)
    for message in got:
        same = next((each for each in left if is_the_same(each, message, http2=False)), None)
        assert same is not None, f"{message} is not in the client's bytes"
        assert same.whole or not message.whole


def known_streams() -> list[bytes]:
    """Everything that is known to be odd, once, and behind it what might be taken for a request."""
    start, behind = (
        b"POST /api/service1/a HTTP/1.1\r\nHost: a\r\n",
        b"GET /api/service1/evil HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    chunked = b"5\r\nhello\r\n0\r\n\r\n"
    fields = [each.replace(b"%d", b"5") for each in ODD_FIELDS]
    found = [start + b"Transfer-Encoding: chunked\r\n\r\n" + each for each in ODD_CHUNKS]
    found += [line + b"\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" for line in ODD_REQUEST_LINES]
    found += [start + b"%s\r\n\r\n%s" % (each, body) for each in fields for body in (b"hello", chunked)]
    found += [start + b"Content-Length: 5\r\n%s\r\n\r\nhello" % each for each in fields]
    found += [start + b"Transfer-Encoding: chunked\r\n%s\r\n\r\n%s" % (each, chunked) for each in fields]
    return [*found, *[each + behind for each in found]]


def test_no_known_oddity_of_a_request_smuggles_another() -> None:
    several = [Stream(stream, [], early=False) for stream in known_streams()]
    for stream, got in zip(several, run(send, several), strict=True):
        judge(stream.data, got)


# ---- HTTP/2: what HTTP/1.1 cannot say must not be said in it

_EVIL = [
    b"x\r\nTransfer-Encoding: chunked",
    b"x\r\n\r\nGET /api/evil HTTP/1.1\r\nHost: a",
    b"x\nX-Evil: 1",
    b"chunked",
    b"a\0b",
    b" x",
    b"x\t",
    b"\xff\x80",
    b"0",
    b"3",
    b"+3",
    b"3, 3",
    b"1e1",
]
_names = st.sampled_from(
    [
        b"transfer-encoding",
        b"content-length",
        b"Content-Length",
        b"host",
        b"connection",
        b"te",
        b"expect",
        b"x-evil",
        b"x evil",
        b"x:evil",
        b"x\r\nevil",
        b"",
        b":path",
        b":authority",
        b":evil",
        b"upgrade",
        b"cookie",
        b"\xe9",
    ]
) | tokens.map(bytes.lower)


@st.composite
def http2_requests(draw: st.DrawFn) -> tuple[Fields, bytes, list[int]]:
    """Fields, a body, and how it is cut into frames. The path says which request it is; the rest may be evil."""
    path = PREFIX + b"/" + draw(st.binary(min_size=4, max_size=4)).hex().encode()
    path += draw(st.sampled_from([b""] * 12 + [b" HTTP/1.1\r\nX: y", b"\r\n", b" ", b"?\xff", b"#x", b"?a=b"]))
    body = draw(st.binary(max_size=30) | st.just(b"GET /api/service1/evil HTTP/1.1\r\nHost: a\r\n\r\n"))
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"get"] * 3 + [b"G T", b"GET\r\n", b""]))
    authority = draw(st.sampled_from([b"gateway"] * 12 + [b"a b", b"a\r\nX: y", b"", b"a/b", b"u@a"]))
    fields = [(b":method", method), (b":scheme", b"http"), (b":authority", authority), (b":path", path)]
    odd = st.tuples(_names, st.sampled_from(_EVIL) | values)
    fields += draw(st.lists(odd, max_size=1) | st.lists(odd, max_size=3))
    if draw(st.booleans()):
        fields.append((b"content-length", b"%d" % (len(body) + draw(st.sampled_from([0, 0, 0, 1, -1, 10])))))
    return fields, body, draw(cuts)


async def send_streams(requests: list[tuple[Fields, bytes, list[int]]]) -> tuple[list[Seen], list[Message]]:
    """Send each on a stream of its own, one after another, on one connection."""

    async def script(conn: Connection) -> None:
        reading = Requests(conn)
        while True:
            await conn.send(echo(await reading.next()))

    async with world(script) as (gateway, backend):
        async with await gateway.raw_client() as peer:
            client = Http2Client(peer)
            for number, (fields, body, lengths) in enumerate(requests):
                stream_id = 2 * number + 1
                client.h2.send_headers(stream_id, fields, end_stream=False)
                start = 0
                for length in [*lengths, len(body)]:
                    client.h2.send_data(stream_id, body[start : start + length])
                    start += length
                client.h2.end_stream(stream_id)
            await client.flush()
            ids = [2 * number + 1 for number in range(len(requests))]
            with trio.move_on_after(40):
                while not client.gone and not all(client.stream(each).over for each in ids):
                    await client.receive()
        await trio.sleep(MOMENT)
        return [client.seen(each) for each in ids], requests_in(conn.received for conn in backend.connections)


@examples(150)
@given(requests=st.lists(http2_requests(), min_size=1, max_size=3, unique_by=lambda request: request[0][3]))
def test_stream_is_one_request_for_the_backend_or_none(requests: list[tuple[Fields, bytes, list[int]]]) -> None:
    seen, got = run(send_streams, requests)
    asked = [
        Message((fields[0][1], fields[3][1], b""), [each for each in fields if each[0][:1] != b":"], body)
        for fields, body, _ in requests
    ]
    through = 0
    for message in got:
        same = [each for each in asked if is_the_same(each, message, http2=True)]
        assert len(same) == 1, f"{message} is none of the streams"
        asked.remove(same[0])
        through += message.whole
    event(f"{through} of {len(requests)} got through")
    for (fields, _, _), one in zip(requests, seen, strict=True):
        if one.answer.whole and one.final.status == 200:
            head = fields[0][1] == b"HEAD"
            assert one.final.body == (b"" if head else upstream_target(fields[3][1]))
        else:
            assert one.failed
