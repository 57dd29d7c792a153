"""Whatever a backend says, a client gets what it means, or sees that something went wrong. Never a clean lie.

What bytes mean is asked of two readers that have nothing in common with the gateway's: h11, which forgives some, and
``strict``, which forgives nothing. An answer that the gateway passes on as whole must be whole for both, and equal. One
that both call whole must be passed on, but for what ``STRICTER`` lists.

The bound of it, for any proxy: a body that ends with the connection and nothing else cannot be told from one that was
cut off there by a FIN (RFC 9112 section 8).
"""

from collections.abc import Callable
from typing import NamedTuple

import h11
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from . import crossing, strict
from .crossing import without
from .messages import Ask, cuts, replies
from .mutants import mutated, shreds
from .profile import examples, run
from .strict import End, Fields
from .world import Seen, Version, exchange

STRICTER: list[tuple[str, Callable[[strict.Answer], bool]]] = [
    ("101 Switching Protocols, which nobody asked for", lambda read: any(m.status == 101 for m in read.informational)),
    ("more than 64 informational answers", lambda read: len(read.informational) > 64),
    ("more than 256 fields", lambda read: any(len(m.fields) > 256 for m in [*read.informational, read.final] if m)),
]
"""What both readers take for an answer, and the gateway does not."""

NOT_COMPARED = (b"content-length", b"transfer-encoding", b"connection", b"date", b"via", b"x-request-id")


class Meaning(NamedTuple):
    """An answer that is whole."""

    status: int
    fields: Fields
    body: bytes


def as_h11_reads_it(data: bytes, method: bytes, end: End) -> Meaning | None:
    """What h11 makes of it as a client; None where that is not a whole answer."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=200_000)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data) if data else None
        if end is End.FIN:
            connection.receive_data(b"")
        response: h11.Response | None = None
        body = b""
        while True:
            match connection.next_event():
                case h11.Response() as found:
                    response = found
                case h11.Data() as piece:
                    body += bytes(piece.data)
                case h11.EndOfMessage():
                    assert response is not None
                    return Meaning(response.status_code, list(response.headers.raw_items()), body)
                case h11.NEED_DATA | h11.PAUSED | h11.ConnectionClosed():
                    return None
    except h11.RemoteProtocolError:
        return None


def as_strict_reads_it(read: strict.Answer) -> Meaning | None:
    if read.final is None or not read.whole:
        return None
    return Meaning(read.final.status, read.final.fields, read.final.body)


def crossed(meaning: Meaning, *, http2: bool) -> Meaning:
    fields = crossing.to_client(meaning.fields, http2=http2)
    return Meaning(meaning.status, without(fields, *NOT_COMPARED), meaning.body)


def judge(data: bytes, method: bytes, end: End, version: Version, seen: Seen) -> None:
    """Hold what the client saw against what the two readers make of the backend's bytes."""
    strictly = strict.answer(data, method, end)
    second, third = as_h11_reads_it(data, method, end), as_strict_reads_it(strictly)
    if seen.failed:
        agreed = second is not None and third is not None and second == third
        reasons = [reason for reason, is_so in STRICTER if is_so(strictly)]
        assert not agreed or reasons, f"refused, but {third} for both readers: {seen}"
        event("a visible failure")
        return
    assert third is not None, f"passed on as whole, but it is not: {seen}"
    assert second is not None, f"passed on as whole, but it is not for h11: {seen}"
    got = Meaning(seen.final.status, without(seen.final.fields, *NOT_COMPARED), seen.final.body)
    assert got == crossed(third, http2=version == 2)
    assert got == crossed(second, http2=version == 2)
    event("an equal answer")


@st.composite
def sayings(draw: st.DrawFn, method: bytes) -> bytes:
    """What a backend may say: legal with wounds, cut off, or made of shreds."""
    if draw(st.integers(0, 4)) == 0:
        return draw(shreds)
    data = draw(mutated(draw(replies(method, largest=2_000)).http1()))
    if draw(st.integers(0, 3)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return data


METHODS = [b"GET", b"HEAD", b"POST"]


@pytest.mark.parametrize("version", [0, 1, 2])
@examples(70)
@given(said=st.sampled_from(METHODS).flatmap(lambda m: st.tuples(st.just(m), sayings(m))), end=..., packets=cuts)
def test_client_gets_an_equal_answer_or_sees_a_failure(
    version: Version, said: tuple[bytes, bytes], end: End, packets: list[int]
) -> None:
    method, data = said
    _, seen = run(exchange, Ask(method=method), data, end, ([], packets), version)
    judge(data, method, end, version, seen)
