"""Messages with something wrong in them: a few small wounds in what was legal."""

import re

from hypothesis import strategies as st

_NASTY = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0",
    b"-",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"\r\nContent-Length: 3",
    b"\r\ncontent-length: 0",
    b"\r\nContent-Length: +5",
    b"\r\nContent-Length: 3, 3",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding: xchunked",
    b"\r\nTransfer-Encoding : chunked",
    b"\r\nTransfer-Encoding:\x0bchunked",
    b"\r\nConnection: close",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    b"GET /api/service1/evil HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\xff",
]
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
            b"HTTP/2 200\r\n",
            b"GET /api/service1/a HTTP/1.1\r\n",
            b"POST /api/service1/b HTTP/1.1\r\n",
            b"Host: gateway\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"\r\n",
            b"5\r\nhello\r\n",
            b"hello",
            b"0\r\n\r\n",
            b"<html>",
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)
"""Pieces of messages in any order."""
