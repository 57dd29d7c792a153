"""However the bytes are cut into packets, both ends get what they get when nothing is cut.

Each example runs twice, whole and cut, and the two are compared: nothing here knows what the result should be. Legal
conversations must come out equal. Where the bytes are mutated, one thing may differ and no more: a failure can be told
in words as long as the answer has not begun, and only by breaking it off later.
"""

from contextlib import suppress
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.testing.backend import Connection
from gateway.testing.peer import PeerGoneError

from . import strict
from .crossing import without
from .messages import Ask, Reply, asks, cuts, replies
from .mutants import mutated
from .profile import examples, run
from .strict import End, Fields, Message
from .world import MOMENT, Requests, Seen, Version, exchange, send_in_packets, world

CHANGING = (b"x-request-id", b"date")
FRAMING = (b"content-length", b"transfer-encoding")
PACKETS = st.tuples(cuts, cuts)
"""Of the client, of the backend."""

Fact = tuple[Any, ...]


def request_facts(message: Message) -> Fact:
    return (message.start, without(message.fields, *CHANGING, *FRAMING), message.body, message.whole)


def answer_facts(seen: Seen) -> Fact:
    if seen.failed:
        return ("failed",)
    message = seen.final
    return (message.status, without(message.fields, *CHANGING, *FRAMING), message.body, message.trailers)


async def facts(ask: Ask, answer: bytes, end: End, packets: tuple[list[int], list[int]], version: Version) -> Fact:
    asked, seen = await exchange(ask, answer, end, packets, version)
    return [request_facts(message) for message in asked], answer_facts(seen)


@pytest.mark.parametrize("version", [1, 2])
@examples(40)
@given(data=st.data(), packets=PACKETS)
def test_legal_exchange_is_the_same_in_any_packets(
    version: Literal[1, 2], data: Any, packets: tuple[list[int], list[int]]
) -> None:
    ask = data.draw(asks(version=version, largest=20_000))
    reply = data.draw(replies(ask.method, largest=20_000))
    whole = run(facts, ask, reply.http1(), reply.end, ([], []), version)
    assert whole[1] != ("failed",)
    assert run(facts, ask, reply.http1(), reply.end, packets, version) == whole


@examples(40)
@given(
    answer=replies(b"GET", largest=500).map(Reply.http1).flatmap(mutated),
    end=st.sampled_from(End),
    lengths=cuts,
)
def test_mutated_answer_is_the_same_or_fails_visibly_in_any_packets(
    answer: bytes, end: End, lengths: list[int]
) -> None:
    whole = run(facts, Ask(), answer, end, ([], []), 1)
    assert run(facts, Ask(), answer, end, ([], lengths), 1) == whole


async def conversation(stream: bytes, lengths: list[int]) -> Fact:
    """Many requests on one connection: what the backend had of them, and what the client was answered."""
    asked: list[Message] = []

    async def script(conn: Connection) -> None:
        requests = Requests(conn)
        while True:
            message = await requests.next()
            asked.append(message)
            await conn.send(Reply(body=b"%s %s" % message.start[:2]).http1())

    async with world(script) as (gateway, _), await gateway.raw_client() as client:
        with suppress(PeerGoneError):
            await send_in_packets(client, stream, lengths)
        await client.sleep(MOMENT)
        with suppress(PeerGoneError):
            await client.half_close()
        await client.read_to_end()
    answers: list[tuple[int, Fields, bytes]] = []
    rest = client.received
    while rest:
        answer = strict.answer(rest, b"GET", End.FIN)
        assert answer.whole, f"the client was sent nonsense: {rest!r}"
        assert answer.final is not None
        body = b"" if answer.final.all(b"proxy-status") else answer.final.body
        answers.append((answer.final.status, without(answer.final.fields, *CHANGING, *FRAMING), body))
        rest = answer.rest
    return [request_facts(message) for message in asked], answers


streams = st.lists(asks(version=1, largest=300).filter(lambda ask: ask.method != b"HEAD"), min_size=1, max_size=4).map(
    lambda several: b"".join(ask.http1() for ask in several)
)


@examples(40)
@given(stream=streams, lengths=cuts)
def test_pipelined_requests_are_the_same_in_any_packets(stream: bytes, lengths: list[int]) -> None:
    assert run(conversation, stream, lengths) == run(conversation, stream, [])


@examples(40)
@given(stream=streams.flatmap(mutated), lengths=cuts)
def test_mutated_requests_are_the_same_in_any_packets(stream: bytes, lengths: list[int]) -> None:
    assert run(conversation, stream, lengths) == run(conversation, stream, [])
