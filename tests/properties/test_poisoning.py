r"""No byte that a backend sends out of turn is ever part of another client's answer.

Many clients ask for a nonce each, over few connections to a backend that answers each with its own nonce, and says more
than it was asked for: bytes, halves of answers and whole answers, behind an answer, in its last packet or after it,
before the pool has the connection back and after, in any packets. Each client must get the answer with its nonce, or
see a failure. And nothing but an idempotent request is asked twice.

The bound: what comes after the next request has been written cannot be told from its answer by any HTTP/1.1 client, for
the answers carry no name (RFC 9112 section 9.3.2). Here that is exact, since the network is in memory: the backend says
nothing out of turn once a request stands unread. On a real one the bound is the time that bytes are on their way: what
was sent before the request and comes after it. ``test_answer_out_of_turn_...`` shows what happens then: one client is
deceived and no further, if the backend's own answer comes before the next request goes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from hypothesis import event, example, given
from hypothesis import strategies as st

from gateway.config import Service, Settings
from gateway.testing.app import RunningGateway
from gateway.testing.backend import Connection

from .messages import in_chunks
from .mutants import EVIL_ANSWER as EVIL
from .mutants import shreds
from .profile import examples, run
from .strict import End, Message
from .world import MOMENT, TICK, Http2Client, Requests, Seen, ask_http1, send_in_packets, world

EVILS = st.sampled_from(
    [
        EVIL,
        EVIL * 2,
        EVIL.replace(b"evil", b"ev"),
        EVIL.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked").replace(b"evil", b"4\r\nevil\r\n0\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\n\r\nevil",
        b"HTTP/1.0 200 OK\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + EVIL,
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Evil: ",
        b"\r\n",
        b"\n",
        b"e",
        b"0\r\n\r\n",
    ]
) | shreds.filter(bool)
"""What nobody asked for."""

BUFFER = 65_536
"""Bytes that the network holds, and that the gateway reads at once."""
HALT = 2.0
"""Seconds."""


@dataclass(frozen=True)
class Turn:
    """How the backend behaves for one request."""

    framing: str = "length"
    packets: list[int] = field(default_factory=list)
    together: bool = False
    """The first of the evil goes out in the packet that ends the answer."""
    evil: Sequence[tuple[float, bytes]] = ()
    """What follows, each after so many seconds."""
    early: bool = False
    """It answers when it has the head, without waiting for the body."""
    long: bool = False
    """Its body fills what lies between it and a client that does not read, and comes to a halt before its end."""
    slam: bool = False
    """It closes the connection instead of answering."""
    close: bool = False


@dataclass(frozen=True)
class Client:
    """One request, from a client of its own."""

    after: float
    """Seconds since the client before."""
    method: bytes = b"GET"
    http2: bool = False
    body: int = 0
    """Bytes of its body, all zero; over HTTP/2 no more than the first window takes."""
    deaf: bool = False
    """It reads nothing, and leaves after a moment."""
    impatient: float | None = None
    """It leaves after so many seconds."""


def answer_to(message: Message, framing: str) -> bytes:
    body = b"nonce " + message.start[1].rpartition(b"/")[2]
    head, length = b"HTTP/1.1 200 OK\r\n", b"Content-Length: %d\r\n\r\n" % len(body)
    if message.start[0] == b"HEAD":
        return head + b"X-Nonce: %s\r\n" % body + length
    if framing == "chunked":
        return head + b"X-Nonce: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % body + in_chunks(body, [3])
    if framing == "long":
        # The gateway has read all that there is when it can write no more; what comes after the halt looks like more.
        for size in range(BUFFER - 200, BUFFER):
            long = head + b"X-Nonce: %s\r\nContent-Length: %d\r\n\r\n" % (body, size + len(EVIL)) + bytes(size)
            if len(long) == BUFFER:
                return long + EVIL
    if framing == "none":
        return b"HTTP/1.1 304 \r\nX-Nonce: %s\r\n\r\n" % body
    return head + b"X-Nonce: %s\r\n" % body + length + body


def is_asked(conn: Connection) -> bool:
    """Whether a request stands unread: what is said from now on is an answer to it, as far as anybody can tell."""
    stream: Any = conn.stream
    return bool(stream.is_readable())


def check_body(message: Message) -> None:
    assert not message.body.strip(b"\0"), f"{message.start} has bytes of another request in its body"


async def misbehave(conn: Connection, turn: Turn, answer: bytes) -> None:
    evil = [*turn.evil]
    if answer.endswith(EVIL):
        await conn.send(answer.removesuffix(EVIL))
        await trio.sleep(HALT)
        answer = EVIL
    if turn.together and evil:
        answer += evil.pop(0)[1]
    await send_in_packets(conn, answer, turn.packets)
    for delay, data in evil:
        await trio.sleep(delay)
        if is_asked(conn):
            return
        await conn.send(data)


async def play(turns: list[Turn], clients: list[Client], connections: int) -> list[Seen | None]:
    """Give what each client saw; None for one that left before."""
    left = iter(turns)
    asked: list[tuple[bytes, bytes]] = []

    async def script(conn: Connection) -> None:
        requests = Requests(conn)
        while True:
            message = await requests.next(head=True)
            asked.append(message.start[:2])
            turn = next(left, Turn())
            if turn.slam:
                return
            if not turn.early:
                check_body(await requests.next())
            await misbehave(conn, turn, answer_to(message, "long" if turn.long else turn.framing))
            if turn.close:
                return
            if turn.early:
                check_body(await requests.next())

    settings = Settings(services=(Service(name="service1", host="service1", port=8001, max_connections=connections),))
    saw: list[Seen | None] = [None] * len(clients)

    async with world(script, settings) as (gateway, _):

        async def ask(number: int, client: Client) -> None:
            if client.deaf:
                async with await gateway.raw_client() as raw:
                    await raw.send(b"GET /api/service1/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                    await trio.sleep(MOMENT)
                return
            with trio.move_on_after(client.impatient or 200):
                saw[number] = await (ask_http2 if client.http2 else ask_plain)(gateway, client, number)

        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                await trio.sleep(client.after)
                nursery.start_soon(ask, number, client)
    assert len([one for one in asked if one[0] == b"POST"]) == len({one for one in asked if one[0] == b"POST"})
    return saw


async def ask_plain(gateway: RunningGateway, client: Client, number: int) -> Seen:
    length = b"Content-Length: %d\r\n" % client.body if client.body else b""
    head = b"%s /api/service1/%d HTTP/1.1\r\nHost: a\r\n%s\r\n" % (client.method, number, length)
    return await ask_http1(gateway, head + bytes(client.body), [], client.method)


async def ask_http2(gateway: RunningGateway, client: Client, number: int) -> Seen:
    async with await gateway.raw_client() as peer:
        talk = Http2Client(peer)
        path = b"/api/service1/%d" % number
        fields = [(b":method", client.method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
        body = min(client.body, 60_000)
        talk.h2.send_headers(1, fields, end_stream=not body)
        for left in range(body, 0, -16_000):
            talk.h2.send_data(1, bytes(min(left, 16_000)), end_stream=left <= 16_000)
        await talk.flush()
        while not (talk.stream(1).over or talk.gone):
            await talk.receive()
        return talk.seen(1)


def judge(number: int, client: Client, seen: Seen | None) -> str:
    if seen is None:
        assert client.deaf or client.impatient is not None, "no answer"
        return "left"
    if seen.failed:
        return "a visible failure"
    nonce = b"nonce %d" % number
    assert seen.final.all(b"x-nonce") == [nonce], f"client {number} was answered with {seen.final}"
    if client.method != b"HEAD" and seen.final.status != 304:
        assert seen.final.body == nonce or seen.final.body.strip(b"\0") == EVIL
    if seen.end is not End.OPEN or not client.http2:
        assert seen.answer.rest == b"", "more than its answer"
    return "its own answer"


moments = st.sampled_from([0, 0, TICK, TICK / 2, 2 * TICK, MOMENT, 1.5, 3])
turns_ = st.builds(
    Turn,
    framing=st.sampled_from(["length", "length", "chunked", "none"]),
    packets=st.lists(st.integers(1, 60), max_size=4),
    together=st.booleans(),
    evil=st.just([]) | st.lists(st.tuples(moments, EVILS), max_size=3),
    early=st.sampled_from([False] * 4 + [True]),
    long=st.sampled_from([False] * 9 + [True]),
    slam=st.sampled_from([False] * 9 + [True]),
    close=st.sampled_from([False] * 9 + [True]),
)
clients_ = st.builds(
    Client,
    after=moments,
    method=st.sampled_from([b"GET"] * 4 + [b"POST", b"HEAD"]),
    http2=st.booleans(),
    body=st.sampled_from([0, 0, 0, 5, 40_000, 300_000]),
    deaf=st.sampled_from([False] * 9 + [True]),
    impatient=st.sampled_from([None] * 6 + [TICK, 3 * TICK]),
)


@examples(100)
@given(
    turns=st.lists(turns_, max_size=10),
    clients=st.lists(clients_, min_size=2, max_size=10),
    connections=st.integers(1, 3),
)
@example(turns=[Turn(evil=[(0, EVIL)])] * 3, clients=[Client(0)] * 5, connections=1)
@example(turns=[Turn(evil=[(0, EVIL)], together=True)] * 3, clients=[Client(TICK)] * 5, connections=1)
@example(turns=[Turn(evil=[(1, EVIL)])] * 3, clients=[Client(1.5)] * 5, connections=1)
@example(turns=[Turn(early=True)] * 3, clients=[Client(TICK, body=300_000, method=b"POST")] * 5, connections=1)
@example(turns=[Turn(long=True)], clients=[Client(0, deaf=True), Client(1), Client(1)], connections=1)
@example(turns=[Turn(), Turn(slam=True)], clients=[Client(0), Client(1, method=b"POST", body=5)], connections=1)
@example(turns=[Turn(framing="none", evil=[(1, b"e")])] * 3, clients=[Client(1.5, http2=True)] * 5, connections=1)
def test_every_client_gets_its_own_answer_or_sees_a_failure(
    turns: list[Turn], clients: list[Client], connections: int
) -> None:
    for number, (client, seen) in enumerate(zip(clients, run(play, turns, clients, connections), strict=True)):
        event(judge(number, client, seen))


def test_answer_out_of_turn_that_comes_behind_the_next_request_deceives_one_client_and_no_other() -> None:
    async def play() -> list[bytes]:
        async def script(conn: Connection) -> None:
            requests = Requests(conn)
            while True:
                message = await requests.next()
                deceives = message.start[1].endswith(b"/1")
                await conn.send((EVIL if deceives else b"") + answer_to(message, "length"))

        async with world(script) as (gateway, backend):
            seen = [await ask_plain(gateway, Client(0), number) for number in range(4)]
            assert len(backend.connections) == 2
        return [each.final.body for each in seen]

    assert run(play) == [b"nonce 0", b"evil", b"nonce 2", b"nonce 3"]
