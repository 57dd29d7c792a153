"""Whatever is legal arrives as it was sent, both ways, over HTTP/1.1 and HTTP/2."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import crossing
from .crossing import values_of, without
from .messages import PREFIX, Ask, Reply, asks, cuts, replies
from .profile import examples, run
from .strict import Message
from .world import Seen, Version, exchange

ADDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-request-id", b"te")
FRAMING = (b"content-length", b"transfer-encoding")


def carry(ask: Ask, reply: Reply, packets: list[int], version: Version) -> tuple[Message, Seen]:
    """One exchange: the request as the backend had it, and the answer as the client had it."""
    asked, seen = run(exchange, ask, reply.http1(), reply.end, (packets, packets), version)
    assert len(asked) == 1, f"the backend had {len(asked)} requests, the client {seen}"
    return asked[0], seen


def check_request(ask: Ask, got: Message, version: Version) -> None:
    assert got.start == (ask.method, ask.upstream_target, b"HTTP/1.1")
    assert got.body == (ask.body or b"")
    fields = got.fields

    # What crosses: equal, and in order. Via has its own line behind the client's, Host has its own rules.
    vias = values_of(fields, b"via")
    assert vias == [*values_of(crossing.to_backend(ask.fields, http2=version == 2), b"via"), own_via(version)]
    sent = crossing.to_backend(ask.fields, http2=version == 2)
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

    # Trailers, where both sides can carry them: announced, in chunks, to a client that takes them.
    announced = b"trailer" in {name.lower() for name, _ in crossing.to_client(reply.fields, http2=True)}
    takes = version == 2 or any(b"trailers" in value.lower() for value in values_of(ask.fields, b"te"))
    if announced and takes and reply.framing == "chunked":
        assert got.trailers == [(name.lower() if version == 2 else name, value) for name, value in reply.trailers]
    else:
        assert got.trailers == []

    hints = [message for message in seen.answer.informational if message.status == 103]
    early = [fields for status, fields in reply.before if status == 103]
    if version == 2:
        assert [each.fields for each in hints] == [[(b"link", value) for value in values_of(f, b"link")] for f in early]
    else:
        assert hints == []
    assert all(message.status in (100, 103) for message in seen.answer.informational)


@pytest.mark.parametrize("version", [1, 2])
@examples(100)
@given(data=st.data())
def test_any_legal_request_arrives_equal_at_the_backend(version: Literal[1, 2], data: Any) -> None:
    ask = data.draw(asks(version=version))
    got, seen = carry(ask, Reply(body=b"ok"), data.draw(cuts), version)
    check_request(ask, got, version)
    check_answer(ask, Reply(body=b"ok", framing="none" if ask.method == b"HEAD" else "length"), seen, version)


@pytest.mark.parametrize("version", [1, 2])
@examples(100)
@given(data=st.data())
def test_any_legal_answer_arrives_equal_at_the_client(version: Version, data: Any) -> None:
    method = data.draw(st.sampled_from([b"GET", b"GET", b"GET", b"POST", b"HEAD"]))
    takes = [(b"te", b"trailers")] if data.draw(st.booleans()) else []
    ask = Ask(method=method, fields=takes, body=b"abc" if method == b"POST" else None)
    reply = data.draw(replies(method))
    got, seen = carry(ask, reply, data.draw(cuts), version)
    check_request(ask, got, version)
    check_answer(ask, reply, seen, version)
