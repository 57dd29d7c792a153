"""However the bytes are cut into packets, both ends get what they get when nothing is cut.

Each example runs twice, whole and cut, and the two are compared: nothing here knows what the result should be. Legal
conversations must come out equal. Where the bytes are mutated, one thing may differ and no more: a failure can be told
in words as long as the answer has not begun, and only by breaking it off later.
"""

from contextlib import suppress
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from gateway.testing.backend import Connection
from gateway.testing.peer import PeerGoneError

from . import strict
from .crossing import without
from .messages import Ask, Reply, asks, cuts, replies
from .mutants import odd_answers, odd_requests
from .profile import examples, run
from .strict import End, Message
from .world import Exchange, Requests, Seen, exchange, send_in_packets, world

CHANGING = (b"x-request-id", b"date")
PATIENCE = 10
"""Seconds until a client leaves. The gateway waits one for a backend's 100 Continue, for each that expects it."""
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


def facts(several: list[Exchange]) -> list[Fact]:
    results = run(exchange, several)
    return [([request_facts(message) for message in asked], answer_facts(seen)) for asked, seen in results]


def whole(several: list[Exchange]) -> list[Exchange]:
    """The same, with nothing cut."""
    return [case._replace(packets=([], [])) for case in several]


@st.composite
def legal(draw: st.DrawFn) -> Exchange:
    version: Literal[1, 2] = draw(st.sampled_from([1, 2]))
    ask = draw(asks(version=version, largest=20_000))
    reply = draw(replies(ask.method, largest=20_000))
    return Exchange(ask, reply.http1(), reply.end, draw(PACKETS), version)


@st.composite
def odd(draw: st.DrawFn) -> Exchange:
    answer = draw(odd_answers(replies(b"GET", largest=300)))
    return Exchange(Ask(), answer, draw(st.sampled_from(End)), ([], draw(cuts)), draw(st.sampled_from([1, 2])))


@examples(40)
@given(several=st.lists(legal(), min_size=1, max_size=4))
def test_legal_exchange_is_the_same_in_any_packets(several: list[Exchange]) -> None:
    expected = facts(whole(several))
    assert all(seen != ("failed",) for _, seen in expected)
    assert facts(several) == expected


@examples(40)
@given(several=st.lists(odd(), min_size=1, max_size=6))
def test_odd_answer_is_the_same_or_fails_visibly_in_any_packets(several: list[Exchange]) -> None:
    assert facts(several) == facts(whole(several))


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
        await client.sleep(PATIENCE)
        with suppress(PeerGoneError):
            await client.half_close()
        await client.read_to_end()
    answers: list[object] = []
    rest = client.received
    while rest:
        answer = strict.answer(rest, b"GET", End.FIN)
        assert answer.whole, f"the client was sent nonsense: {rest!r}"
        assert answer.final is not None
        # Of two things that are wrong the one that is complete first is told.
        refused = answer.final.all(b"proxy-status") != []
        fields = without(answer.final.fields, *CHANGING, *FRAMING)
        answers.append("refused" if refused else (answer.final.status, fields, answer.final.body))
        rest = answer.rest
    return [request_facts(message) for message in asked], answers


small = asks(version=1, largest=200).filter(lambda ask: ask.method != b"HEAD")


@examples(60)
@given(
    stream=st.lists(small, min_size=1, max_size=4).map(lambda several: b"".join(a.http1() for a in several)), by=cuts
)
def test_pipelined_requests_are_the_same_in_any_packets(stream: bytes, by: list[int]) -> None:
    assert run(conversation, stream, by) == run(conversation, stream, [])


@examples(80)
@given(stream=odd_requests(small), by=cuts)
def test_odd_requests_are_the_same_in_any_packets(stream: bytes, by: list[int]) -> None:
    assert run(conversation, stream, by) == run(conversation, stream, [])


def test_every_message_is_the_same_cut_at_any_one_byte() -> None:
    ask = Ask(method=b"POST", fields=[(b"X-A", b"b")], body=b"hello", chunks=[2], extension=b";a")
    reply = Reply(
        fields=[(b"Trailer", b"x")],
        body=b"hello",
        framing="chunked",
        said="chunked",
        chunks=[3],
        trailers=[(b"x", b"y")],
    )
    data = len(ask.http1()), len(reply.http1())
    one = Exchange(ask, reply.http1())
    (expected,) = facts([one])
    cut = [one._replace(packets=([at], [])) for at in range(data[0])]
    cut += [one._replace(packets=([], [at])) for at in range(data[1])]
    cut += [one._replace(packets=([1] * data[0], [1] * data[1]))]
    assert [fact for fact in facts(cut) if fact != expected] == []
