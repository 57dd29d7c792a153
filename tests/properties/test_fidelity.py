"""Whatever is legal arrives as it was sent, both ways, over HTTP/1.1 and HTTP/2."""

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from . import crossing
from .crossing import values_of, without
from .messages import PREFIX, Ask, Reply, asks, cuts, replies
from .profile import examples, run
from .strict import Fields, Message
from .world import Exchange, Seen, Version, exchange

ADDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-request-id", b"te")
FRAMING = (b"content-length", b"transfer-encoding")


def check(case: Exchange, reply: Reply, asked: list[Message], seen: Seen) -> None:
    assert len(asked) == 1, f"the backend had {len(asked)} requests, the client {seen}"
    check_request(case.ask, asked[0], case.version)
    check_answer(case.ask, reply, seen, case.version)


def check_request(ask: Ask, got: Message, version: Version) -> None:
    assert got.start == (ask.method, ask.upstream_target, b"HTTP/1.1")
    assert got.body == (ask.body or b"")
    fields = got.fields

    # What crosses: equal, and in order. Via has its own line behind the client's, Host has its own rules.
    sent = crossing.to_backend(ask.method, ask.fields, http2=version == 2)
    assert values_of(fields, b"via") == [*values_of(sent, b"via"), own_via(version)]
    ours = (*ADDED, *FRAMING, b"host", b"via", b"connection")
    assert without(fields, *ours) == without(sent, *ours)

    # What is added.
    host = ask.absolute or ask.host
    assert values_of(fields, b"host") == [host]
    assert values_of(fields, b"x-forwarded-for") == [b"127.0.0.1"]
    assert values_of(fields, b"x-forwarded-host") == [host]
    assert values_of(fields, b"x-forwarded-proto") == [b"http"]
    assert values_of(fields, b"x-forwarded-prefix") == [PREFIX]
    (request_id,) = values_of(fields, b"x-request-id")
    ids = values_of(ask.fields, b"x-request-id")
    if len(ids) == 1 and crossing.SANE_ID.fullmatch(ids[0]):
        assert request_id == ids[0]
    else:
        assert request_id not in (b"no id", b"")
    takes = {coding.strip().lower() for value in values_of(ask.fields, b"te") for coding in value.split(b",")}
    assert values_of(fields, b"te") == ([b"trailers"] if b"trailers" in takes else [])
    assert values_of(fields, b"connection") == ([b"TE"] if b"trailers" in takes else [])

    # The framing: announced is announced, chunks are chunks.
    lengths, codings = values_of(fields, b"content-length"), values_of(fields, b"transfer-encoding")
    if ask.body is None:
        assert (lengths, codings) == ([], [])
    elif ask.chunks is None:
        assert (lengths, codings) == ([b"%d" % len(ask.body)], [])
    elif version == 1:
        assert (lengths, codings) == ([], [b"chunked"])


def own_via(version: Version) -> bytes:
    return b"1.1 api-gateway" if version == 1 else b"2 api-gateway"


def check_answer(ask: Ask, reply: Reply, seen: Seen, version: Version) -> None:
    got = seen.final
    assert seen.answer.whole, seen
    assert seen.answer.wrong is None
    assert seen.answer.rest == b""
    assert got.status == reply.status
    assert got.body == (b"" if reply.framing == "none" else reply.body)
    fields = got.fields
    sent = crossing.to_client(reply.fields, http2=version == 2)
    ours = (*FRAMING, b"date", b"x-request-id", b"via", b"connection")
    assert without(fields, *ours) == without(sent, *ours)
    assert values_of(fields, b"via") == [*values_of(sent, b"via"), b"1.%d api-gateway" % reply.minor]
    assert len(values_of(fields, b"x-request-id")) == 1
    dates = values_of(reply.fields, b"date")
    assert len(values_of(fields, b"date")) == 1
    assert not dates or values_of(fields, b"date") == dates[:1]
    if reply.said == "length":
        assert values_of(fields, b"content-length") == [b"%d" % len(reply.body)]

    # Trailers, where both sides can carry them: in chunks, to a client that takes them.
    takes = version == 2 or any(b"trailers" in value.lower() for value in values_of(ask.fields, b"te"))
    assert got.trailers == (spelled(reply.trailers, version) if takes and reply.framing == "chunked" else [])

    # What goes before it: all of it, and a 100 of the gateway's own to who waits for one.
    before = [(message.status, message.fields) for message in seen.answer.informational]
    if before[:1] == [(100, [])] and values_of(ask.fields, b"expect"):
        del before[0]
    assert before == [(status, spelled(fields, version)) for status, fields in reply.before]


def spelled(fields: Fields, version: Version) -> Fields:
    return [(name.lower(), value) for name, value in fields] if version == 2 else fields


@st.composite
def requests(draw: st.DrawFn) -> tuple[Exchange, Reply]:
    """Any legal request, and a plain answer."""
    version: Literal[1, 2] = draw(st.sampled_from([1, 2]))
    ask = draw(asks(version=version))
    reply = Reply(body=b"ok", framing="none" if ask.method == b"HEAD" else "length")
    return Exchange(ask, reply.http1(), reply.end, (draw(cuts), []), version), reply


@st.composite
def answers(draw: st.DrawFn) -> tuple[Exchange, Reply]:
    """A plain request, and any legal answer."""
    method = draw(st.sampled_from([b"GET", b"GET", b"GET", b"POST", b"HEAD"]))
    takes = [(b"te", b"trailers")] if draw(st.booleans()) else []
    ask = Ask(method=method, fields=takes, body=b"abc" if method == b"POST" else None)
    reply = draw(replies(method))
    return Exchange(ask, reply.http1(), reply.end, ([], draw(cuts)), draw(st.sampled_from([1, 2]))), reply


@examples(80)
@given(several=st.lists(requests(), min_size=1, max_size=5))
def test_any_legal_request_arrives_equal_at_the_backend(several: list[tuple[Exchange, Reply]]) -> None:
    results = run(exchange, [case for case, _ in several])
    for (case, reply), (asked, seen) in zip(several, results, strict=True):
        check(case, reply, asked, seen)


@examples(80)
@given(several=st.lists(answers(), min_size=1, max_size=5))
def test_any_legal_answer_arrives_equal_at_the_client(several: list[tuple[Exchange, Reply]]) -> None:
    results = run(exchange, [case for case, _ in several])
    for (case, reply), (asked, seen) in zip(several, results, strict=True):
        check(case, reply, asked, seen)
