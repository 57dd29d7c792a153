"""Messages with something wrong in them: known ways to be wrong first, and wounds at random."""

import re

from hypothesis import strategies as st

from .messages import Ask, Reply, head

ODD_FIELDS = [
    b"Content-Length: %d",
    b"Content-Length: +%d",
    b"Content-Length: -%d",
    b"Content-Length: %d, %d",
    b"Content-Length: 0%d",
    b"Content-Length: 1%d",
    b"Content-Length: %d\t",
    b"Content-Length: %d 1",
    b"Content-Length: 0x%d",
    b"Content-Length: ",
    b"Content-Length: 0",
    b"Content-Length: %d\xb2",
    b"Content-Length : %d",
    b"Content-Length\t: %d",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\0Transfer-Encoding: chunked",
    b"\r\n",
    b"\n",
    b" folded",
    b"no colon",
    b": no name",
    b"two words: x",
    b"X\xe9: y",
    b"Connection: close",
    b"Connection: Transfer-Encoding, Content-Length",
    b"Host: other",
    b"Trailer: Content-Length",
]
"""Lines of a head beside those that are there; ``%d`` is the length of the body."""
ODD_CHUNKS = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5_\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5 x\r\nhello\r\n0\r\n\r\n",
    b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
    b"5;a\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"000005\r\nhello\r\n00\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\r\n",
    b"5\r\nhello\r\n",
    b"5\r\nhel",
    b"5\r\nhello\r\n5\r\n",
    b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    b"5\r\nhello\r\n0\r\n\r\nGET /api/service1/evil HTTP/1.1\r\nHost: a\r\n\r\n",
]
"""Bodies in chunks, or nearly so."""
ODD_STATUS_LINES = [
    b"HTTP/1.1 200",
    b"HTTP/1.1 200\tOK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 0200 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 200 O\0K",
    b"HTTP/1.1 200 \xff",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.2 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/2 200",
    b"http/1.1 200 OK",
    b"HTTP/11 200 OK",
    b"ICY 200 OK",
    b" HTTP/1.1 200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b"",
]
ODD_REQUEST_LINES = [
    b"POST /api/service1/a HTTP/1.0",
    b"POST /api/service1/a HTTP/1.2",
    b"POST /api/service1/a HTTP/2.0",
    b"POST /api/service1/a",
    b"POST  /api/service1/a HTTP/1.1",
    b"POST /api/service1/a b HTTP/1.1",
    b"POST /api/service1/a\tHTTP/1.1",
    b"POST /api/service1/a\xe9 HTTP/1.1",
    b"POST /api/service1/a#b HTTP/1.1",
    b"POST /api/service1/a HTTP/1.1 ",
    b"P(ST /api/service1/a HTTP/1.1",
    b"CONNECT service1:8001 HTTP/1.1",
    b"POST /api/service1/a\nX: HTTP/1.1",
    b"\r\nPOST /api/service1/a HTTP/1.1",
    b"GET /api/service1/a HTTP/1.1",
]
_NASTY = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0", b"-", b"\r\n\r\n", b"0\r\n\r\n", b"\xff"]
_PLACES = re.compile(rb"\r\n|: |;| |\Z")
"""Where wounds hurt: ends of lines, colons, and the very end."""


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with up to three wounds; with none, now and then."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        if draw(st.booleans()):
            at = draw(st.integers(0, len(data)))
        else:
            place = draw(st.sampled_from([match.span() for match in _PLACES.finditer(data)]))
            at = draw(st.sampled_from(place))
        match draw(st.integers(0, 4)):
            case 0 | 1:
                data = data[:at] + draw(st.sampled_from(_NASTY)) + data[at:]
            case 2:
                data = data[:at] + data[at + draw(st.integers(1, 10)) :]
            case 3:
                data = data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at + 1 :]
            case _:
                data = data[:at]
    return data


shreds = st.lists(
    st.sampled_from(
        [
            *_NASTY,
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 204 \r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.1 103 \r\n\r\n",
            b"GET /api/service1/a HTTP/1.1\r\n",
            b"POST /api/service1/b HTTP/1.1\r\n",
            b"Host: gateway\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"5\r\nhello\r\n",
            b"hello",
            b"<html>",
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)
"""Pieces of messages in any order."""


@st.composite
def _odd(draw: st.DrawFn, message: Ask | Reply, lines: list[bytes]) -> bytes:
    """One message, wrong in a known way, or in one at random."""
    data = message.http1()
    block, _, body = data.partition(b"\r\n\r\n")
    first, *fields = block.split(b"\r\n")
    match draw(st.integers(0, 6)):
        case 0:
            return draw(mutated(data))
        case 1:
            return data[: draw(st.integers(0, len(data)))]
        case 2:
            return data[: len(data) - draw(st.integers(0, len(body)))]
        case 3:
            first = draw(st.sampled_from(lines))
        case 4 | 5:
            for _ in range(draw(st.sampled_from([1, 1, 2]))):
                odd = draw(st.sampled_from(ODD_FIELDS)).replace(b"%d", b"%d" % len(body))
                fields.insert(draw(st.integers(0, len(fields))), odd)
        case _:
            fields = [each for each in fields if not each.lower().startswith((b"content-length", b"transfer-enc"))]
            fields.append(b"Transfer-Encoding: chunked")
            body = draw(st.sampled_from(ODD_CHUNKS))
    return b"\r\n".join([first, *fields, b"", b""]) + body


@st.composite
def odd_answers(draw: st.DrawFn, reply: st.SearchStrategy[Reply]) -> bytes:
    """What a backend may say instead of an answer."""
    return draw(shreds) if draw(st.integers(0, 9)) == 0 else draw(_odd(draw(reply), ODD_STATUS_LINES))


@st.composite
def odd_requests(draw: st.DrawFn, asks: st.SearchStrategy[Ask]) -> bytes:
    """What a client may say instead of requests: a few good ones, and one that is not, somewhere among them."""
    if draw(st.integers(0, 9)) == 0:
        return draw(shreds)
    before, after = draw(st.lists(asks, max_size=1)), draw(st.lists(asks, max_size=1))
    odd = draw(_odd(draw(asks), ODD_REQUEST_LINES))
    return b"".join([*[ask.http1() for ask in before], odd, *[ask.http1() for ask in after]])


EVIL_ANSWER = head(b"HTTP/1.1 200 OK", [(b"Content-Length", b"4")]) + b"evil"
