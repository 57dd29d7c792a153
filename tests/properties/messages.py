"""Legal messages, odd ones above all: how they are drawn, and the bytes they are on the wire.

What never lives here: what should become of them (``crossing``), and anything illegal.
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes

import h2.config
import h2.connection
from hypothesis import strategies as st

from .strict import End, Fields

PREFIX = b"/api/service1"
UPSTREAM_PREFIX = b"/api"

TOKEN_SIGNS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = bytes(range(0x21, 0x7F))
TEXT = bytes([*range(0x20, 0x7F), 0x09, *range(0x80, 0x100)])


def made_of(alphabet: bytes, *, min_size: int = 0, max_size: int) -> st.SearchStrategy[bytes]:
    # A list of signs would say it plainer, and take ten times as long to draw.
    table = bytes(alphabet[byte % len(alphabet)] for byte in range(256))
    return st.binary(min_size=min_size, max_size=max_size).map(lambda drawn: drawn.translate(table))


tokens = made_of(TOKEN_SIGNS, min_size=1, max_size=12)
values = made_of(TEXT, max_size=20).map(lambda value: value.strip(b"\t "))
bodies = st.one_of(
    st.binary(max_size=100),
    st.builds(lambda size, of: (of * (size // len(of) + 1))[:size], st.integers(0, 150_000), st.binary(min_size=1)),
)
cuts = st.lists(st.integers(1, 3000) | st.integers(1, 30), max_size=12)
"""Lengths of packets, of chunks; what is left over is one more."""


def pieces(data: bytes, lengths: list[int]) -> list[bytes]:
    """Cut ``data`` into pieces of these lengths, and a last one. No piece is empty."""
    found = []
    for length in lengths:
        found.append(data[:length])
        data = data[length:]
    return [piece for piece in [*found, data] if piece]


# ---- requests

methods = (
    st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"get", b"M-SEARCH"]) | tokens
).filter(lambda method: method not in (b"CONNECT", b"PRI"))

_dot_segment = re.compile(rb"[/\\]\.")


def _is_safe(rest: bytes) -> bool:
    """Whether nobody could find a dot segment in it: those are for ``test_paths``."""
    path = rest.partition(b"?")[0]
    for _ in range(4):
        if _dot_segment.search(path):
            return False
        path, before = unquote_to_bytes(path), path
        if path == before:
            return True
    return False


targets = (
    st.builds(
        lambda path, query: (b"/" + path if path else b"") + query,
        made_of(VISIBLE.replace(b"?", b""), max_size=30),
        st.just(b"") | made_of(VISIBLE, max_size=20).map(lambda query: b"?" + query),
    )
    .map(lambda rest: rest.replace(b"#", b"%23"))
    .filter(_is_safe)
)
"""What follows the prefix of the service."""

# Fields that mean something to a proxy, those that stop at one above all.
_end_to_end: Fields = [
    (b"Accept", b""),
    (b"accept", b"text/html, */*;q=0.1"),
    (b"Authorization", b"Basic QTpC"),
    (b"Cookie", b"a=1"),
    (b"Cookie", b"b=2; c=3"),
    (b"Content-Type", b"text/plain"),
    (b"Content-Encoding", b"gzip"),
    (b"X-Named", b"1"),
    (b"x-named", b"2"),
    (b"User-Agent", b""),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"Via", b"1.0 fred"),
    (b"Via", b"2 other, 1.1 third"),
    (b"Trailer", b"x-check"),
    (b"Max-Forwards", b"3"),
]
_forwarding: Fields = [
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"x-forwarded-host", b"evil.example"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-FORWARDED-PREFIX", b"/x"),
    (b"X-Forwarded-Port", b"1"),
    (b"X_Forwarded_For", b"192.0.2.8"),
    (b"X-Real-IP", b"192.0.2.9"),
    (b"X_Real.IP", b"192.0.2.9"),
    (b"Forwarded", b"for=192.0.2.10"),
    (b"Content_Length", b"7"),
    (b"Transfer.Encoding", b"chunked"),
    (b"X-Request-ID", b"abc-123"),
    (b"X-Request-ID", b"no id"),
    (b"X_Request_ID", b"look-alike"),
]
_settings: Fields = [
    (b"HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA"),
    (b"Proxy-Authorization", b"Basic QTpC"),
    (b"Proxy-Authenticate", b"Basic"),
    (b"TE", b"trailers"),
]
_of_the_connection: Fields = [
    (b"Connection", b"keep-alive"),
    (b"Connection", b"close"),
    (b"connection", b"X-Named"),
    (b"Connection", b" x-named ,TE, \tHost,Content-Length,x-forwarded-for,via,X-Request-ID,cookie,"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Proxy-Connection", b"keep-alive"),
    (b"Upgrade", b"h2c"),
    (b"TE", b"gzip;q=0.5, Trailers"),
]
_groups: list[Fields] = [
    [(b"X-Named", b"1"), (b"x-other", b"2"), (b"Connection", b"x-Named")],
    [(b"Connection", b"keep-alive, Cookie"), (b"Cookie", b"gone=1"), (b"X-After", b"3")],
]
_groups_of_both: list[Fields] = [
    [(b"Cookie", b"a=1"), (b"X-Between", b"x"), (b"Cookie", b"b=2"), (b"X-After", b"y")],
    [(b"X-Twice", b"1"), (b"x-twice", b"1"), (b"X-Twice", b"")],
    [(b"X-Request-ID", b"one"), (b"X-Request-ID", b"two")],
    [(b"X-Latin", b"\xa0caf\xe9\xa0\x85")],
]
_framing = {b"content-length", b"transfer-encoding", b"host", b"expect", b"upgrade", b"connection"}


def _field_lists(known: Fields, groups: list[Fields]) -> st.SearchStrategy[Fields]:
    """Fields that are known, fields that are not, and some that belong together."""
    free = st.tuples(tokens.filter(lambda name: name.lower() not in _framing), values)
    each = st.sampled_from(known).map(lambda one: [one]) | free.map(lambda one: [one]) | st.sampled_from(groups)
    several = st.lists(each, max_size=5) | st.lists(each, min_size=5, max_size=10)
    return several.map(lambda lists: [one for group in lists for one in group])


_known = [*_end_to_end, *_forwarding, *_settings]
_asked_over_http1 = _field_lists([*_known, *_of_the_connection], _groups + _groups_of_both)
_asked_over_http2 = _field_lists(_known, _groups_of_both)

authorities = st.sampled_from([b"gateway", b"gateway:80", b"[::1]:8080", b"A.example", b"192.0.2.1:8000"])


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: bytes = b"GET"
    rest: bytes = b"/x"
    """The target behind the prefix of the service."""
    fields: Fields = field(default_factory=list)
    """But for Host and the framing."""
    host: bytes = b"gateway"
    host_at: int = 0
    absolute: bytes | None = None
    """The authority of a target in absolute-form, HTTP/1.1 only."""
    body: bytes | None = None
    chunks: list[int] | None = None
    """The lengths of its chunks, of its DATA frames; None where a Content-Length announces it."""
    extension: bytes = b""
    trailers: Fields = field(default_factory=list)

    @property
    def target(self) -> bytes:
        path = PREFIX + self.rest
        return path if self.absolute is None else b"http://" + self.absolute + path

    @property
    def upstream_target(self) -> bytes:
        return UPSTREAM_PREFIX + self.rest

    def http1(self, minor: int = 1) -> bytes:
        fields = [*self.fields]
        fields.insert(self.host_at, (b"Host", self.host))
        tail = b""
        if self.body is not None and self.chunks is not None:
            fields.append((b"Transfer-Encoding", b"chunked"))
            tail = in_chunks(self.body, self.chunks, self.extension, self.trailers)
        elif self.body is not None:
            fields.append((b"Content-Length", b"%d" % len(self.body)))
            tail = self.body
        return head(b"%s %s HTTP/1.%d" % (self.method, self.target, minor), fields) + tail

    def http2(self, connection: h2.connection.H2Connection, stream_id: int) -> None:
        """Say it on a stream; the bytes are then in ``connection.data_to_send()``."""
        fields = [
            (b":method", self.method),
            (b":scheme", b"http"),
            (b":authority", self.host),
            (b":path", self.target),
            *[(name.lower(), value) for name, value in self.fields],
        ]
        if self.body is not None and self.chunks is None:
            fields.append((b"content-length", b"%d" % len(self.body)))
        connection.send_headers(stream_id, fields, end_stream=self.body is None)
        if self.body is not None:
            for piece in pieces(self.body, self.chunks or []):
                for start in range(0, len(piece), 16_000):
                    connection.send_data(stream_id, piece[start : start + 16_000])
            connection.send_data(stream_id, b"", end_stream=True)


def head(start: bytes, fields: Fields) -> bytes:
    return b"".join([start, b"\r\n", *[b"%s: %s\r\n" % each for each in fields], b"\r\n"])


def in_chunks(body: bytes, lengths: list[int], extension: bytes = b"", trailers: Fields | None = None) -> bytes:
    chunks = [b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces(body, lengths)]
    return b"".join([*chunks, head(b"0" + extension, trailers or [])])


extensions = st.sampled_from([b"", b";a", b' ; a="b c"', b";a=1;b=2"])
trailer_lists = st.lists(
    st.sampled_from([(b"X-Check", b"abc"), (b"x-empty", b""), (b"X-Check", b"\xe9"), (b"Server-Timing", b"a;dur=1")]),
    max_size=3,
)


@st.composite
def asks(draw: st.DrawFn, *, version: Literal[1, 2], largest: int = 150_000) -> Ask:
    """Legal requests. A body has at most ``largest`` bytes; over HTTP/2 no more than the first window takes."""
    fields = draw(_asked_over_http2 if version == 2 else _asked_over_http1)
    body = draw(st.none() | bodies)
    if body is not None:
        body = body[: min(largest, 60_000) if version == 2 else largest]
        if draw(st.integers(0, 9)) == 0:
            fields = [*fields, (b"Expect", b"100-continue")]
    return Ask(
        method=draw(methods),
        rest=draw(targets),
        fields=fields,
        host=draw(authorities),
        host_at=draw(st.integers(0, len(fields))),
        absolute=draw(st.none() | authorities) if version == 1 else None,
        body=body,
        chunks=None if body is None else draw(st.none() | cuts),
        extension=draw(extensions),
        trailers=draw(trailer_lists),
    )


# ---- answers

_of_answers: Fields = [
    (b"Content-Type", b"text/html"),
    (b"Content-Encoding", b"br"),
    (b"Date", b"Tue, 15 Nov 1994 08:12:31 GMT"),
    (b"Server", b"odd/1.0"),
    (b"Set-Cookie", b"a=1; Path=/"),
    (b"Set-Cookie", b"b=2, c=3"),
    (b"Via", b"1.0 fred"),
    (b"Location", b"http://service1:8001/x"),
    (b"Connection", b"close"),
    (b"Connection", b"keep-alive, X-Named"),
    (b"X-Named", b"1"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Proxy-Connection", b"close"),
    (b"Proxy-Authenticate", b"Basic"),
    (b"Upgrade", b"h2c"),
    (b"X-Request-ID", b"theirs"),
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"Trailer", b"X-Check"),
    (b"Retry-After", b"120"),
    (b"X-Empty", b""),
]
_groups_of_answers: list[Fields] = [
    [(b"X-Named", b"1"), (b"x-other", b"2"), (b"Connection", b"x-Named")],
    [(b"Set-Cookie", b"a=1"), (b"X-Between", b""), (b"set-cookie", b"a=1"), (b"Set-Cookie", b"b=2")],
    [(b"Date", b"Tue, 15 Nov 1994 08:12:31 GMT"), (b"date", b"Wed, 16 Nov 1994 08:12:31 GMT")],
    [(b"Trailer", b"X-Check")],
    [(b"X-Latin", b"\xa0caf\xe9\xa0\x85")],
]
_answered = _field_lists(_of_answers, _groups_of_answers)
statuses = (
    st.sampled_from([200, 200, 200, 204, 206, 301, 304, 400, 404, 413, 500, 502, 503, 504])
    | st.integers(200, 599)
    | st.integers(600, 999)
)
informational = st.lists(
    st.tuples(
        st.sampled_from([100, 102, 103, 103, 199]),
        st.lists(st.sampled_from([(b"Link", b"</a.css>; rel=preload"), (b"X-Early", b"1")]), max_size=2),
    ),
    max_size=3,
)

Framing = Literal["length", "chunked", "close", "none"]


@dataclass(frozen=True)
class Reply:
    """One answer, with what goes before it."""

    status: int = 200
    reason: bytes = b""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    framing: Framing = "length"
    said: Framing = "length"
    """What its head says of a body. Where none can be (HEAD, 304), ``framing`` is none and this is what would be."""
    minor: int = 1
    chunks: list[int] = field(default_factory=list)
    extension: bytes = b""
    trailers: Fields = field(default_factory=list)
    before: list[tuple[int, Fields]] = field(default_factory=list)

    @property
    def end(self) -> End:
        """How the backend has to end, for the answer to be whole."""
        return End.FIN if self.framing == "close" else End.OPEN

    def http1(self) -> bytes:
        fields = [*self.fields]
        if self.said == "length":
            fields.append((b"Content-Length", b"%d" % len(self.body)))
        elif self.said == "chunked":
            fields.append((b"Transfer-Encoding", b"chunked"))
        early = b"".join(head(b"HTTP/1.1 %d Early" % status, fields) for status, fields in self.before)
        block = early + head(b"HTTP/1.%d %d %s" % (self.minor, self.status, self.reason), fields)
        if self.framing == "chunked":
            return block + in_chunks(self.body, self.chunks, self.extension, self.trailers)
        return block if self.framing == "none" else block + self.body


@st.composite
def replies(draw: st.DrawFn, method: bytes, *, largest: int = 150_000) -> Reply:
    """Legal answers to a request with this method."""
    status = draw(statuses)
    body = draw(bodies)[:largest]
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    said: Framing = draw(
        st.sampled_from(["length", "length", "close"] if minor == 0 else ["length", "chunked", "close"])
    )
    framing = said
    if status == 204:  # which says nothing of a body (RFC 9110 section 8.6)
        framing, said = "none", "none"
    elif method == b"HEAD" or status == 304:
        framing = "none"
    elif status == 205:
        body, framing, said = b"", "length", "length"
    fields = draw(_answered)
    return Reply(
        status=status,
        reason=draw(values),
        fields=fields,
        body=body,
        framing=framing,
        said=said,
        minor=minor,
        chunks=draw(cuts),
        extension=draw(extensions),
        trailers=draw(trailer_lists),
        before=draw(informational) if minor == 1 else [],
    )
