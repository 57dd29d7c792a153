"""Whatever a backend says, a client gets what it means, or sees that something went wrong. Never a clean lie.

What bytes mean is asked of two readers that have nothing in common with the gateway's: h11, which forgives some, and
``strict``, which forgives nothing. An answer that the gateway passes on as whole must be whole for both, and equal. One
that both call whole must be passed on, but for what ``STRICTER`` lists.

The bound of it, for any proxy: a body that ends with the connection and nothing else cannot be told from one that was
cut off there by a FIN (RFC 9112 section 8).
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import crossing, strict
from .crossing import without
from .messages import Ask, cuts, replies
from .mutants import ODD_CHUNKS, ODD_FIELDS, ODD_STATUS_LINES, odd_answers
from .profile import examples, run
from .strict import End, Fields
from .world import Exchange, Seen, Version, exchange


def is_ambiguous(message: strict.Message) -> bool:
    try:
        strict.length_of(message)
    except strict.Nonsense:
        return True
    return False


STRICTER: list[tuple[str, Callable[[strict.Answer], bool]]] = [
    ("101 Switching Protocols, which nobody asked for", lambda read: any(m.status == 101 for m in read.informational)),
    ("ambiguous framing in an informational answer", lambda read: any(map(is_ambiguous, read.informational))),
    ("more than 64 informational answers", lambda read: len(read.informational) > 64),
    ("more than 256 fields", lambda read: any(len(m.fields) > 256 for m in [*read.informational, read.final] if m)),
]
"""What both readers take for an answer, and the gateway does not."""

PADDED_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")
"""White space before a chunk extension: h11 refuses it, RFC 9112 section 7.1.1 has it. There h11 is not asked."""
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


def judge(case: Exchange, seen: Seen) -> None:
    """Hold what the client saw against what the two readers make of the backend's bytes."""
    data, method, end = case.answer, case.ask.method, case.end
    strictly = strict.answer(data, method, end)
    second, third = as_h11_reads_it(data, method, end), as_strict_reads_it(strictly)
    if seen.failed:
        agreed = second is not None and third is not None and second == third
        reasons = [reason for reason, is_so in STRICTER if is_so(strictly)]
        assert not agreed or reasons, f"refused, but {third} for both readers: {seen}"
        return
    assert third is not None, f"passed on as whole, but it is not: {seen}"
    if second is None and PADDED_EXTENSION.search(data):
        second = third
    assert second is not None, f"passed on as whole, but it is not for h11: {seen}"
    got = Meaning(seen.final.status, without(seen.final.fields, *NOT_COMPARED), seen.final.body)
    assert got == crossed(third, http2=case.version == 2)
    assert got == crossed(second, http2=case.version == 2)


@st.composite
def cases(draw: st.DrawFn) -> Exchange:
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"]))
    return Exchange(
        Ask(method=method),
        draw(odd_answers(replies(method, largest=300))),
        draw(st.sampled_from(End)),
        ([], draw(cuts)),
        draw(st.sampled_from([0, 1, 2])),
    )


@examples(60)
@given(several=st.lists(cases(), min_size=1, max_size=8))
def test_client_gets_an_equal_answer_or_sees_a_failure(several: list[Exchange]) -> None:
    for case, (_, seen) in zip(several, run(exchange, several), strict=True):
        judge(case, seen)


def known_answers() -> list[Exchange]:
    """Everything that is known to be odd, once, with each end and for each client."""
    body = b"hello"
    said = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks for chunks in ODD_CHUNKS]
    said += [line + b"\r\nContent-Length: 5\r\n\r\n" + body for line in ODD_STATUS_LINES]
    fields = [each.replace(b"%d", b"5") for each in ODD_FIELDS]
    said += [b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (each, body) for each in fields]
    said += [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n%s\r\n\r\n%s" % (each, body) for each in fields]
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    said += [chunked % each for each in fields]
    said += [whole[:-1] for whole in said[-1:]]
    return [Exchange(Ask(), data, end, ([], packets), 1) for data in said for end in End for packets in ([], [60])]


@pytest.mark.parametrize("version", [0, 1, 2])
def test_no_known_oddity_of_an_answer_becomes_a_clean_lie(version: Version) -> None:
    several = [case._replace(version=version) for case in known_answers()]
    for case, (_, seen) in zip(several, run(exchange, several), strict=True):
        judge(case, seen)
