"""The door: request heads, read strictly or refused. Pure.

What lives here: RFC 9112 and RFC 9113 as far as they say which head is a request. What never will: I/O, state, the app.

A server behind a proxy that reads a head in two ways can be made to see two requests (RFC 9112 section 11.2), so
nothing is repaired here: no bare LF, no folded lines, no white space before a colon, no two lengths, no two hosts. What
passes is unambiguous, and the app gets it byte for byte.
"""

import re
from typing import NamedTuple

from gateway.http1 import (
    MAX_FIELDS,
    ChunkedDecoder,
    Decoder,
    LengthDecoder,
    ProtocolError,
    RawHeaders,
    parse_fields,
    without_repeats,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What an HTTP/2 client says first (RFC 9113 section 3.4)."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# Visible ASCII without "#": a fragment never goes over the wire (RFC 9112 section 3.2).
_TARGET = rb"[!\"$-~]++"
_REQUEST_LINE = re.compile(rb"(%s) (%s) HTTP/([0-9])\.([0-9])\r\n" % (_TOKEN, _TARGET))
_FIRST_BYTE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z\r]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?")
_H2_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
_H2_METHOD = re.compile(_TOKEN)
_H2_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+")
_H2_TARGET = re.compile(_TARGET)
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OF_THE_CONNECTION = frozenset([b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"])


class Refused(Exception):
    """A head that is no request, or none that can be served; ``status`` says why to the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RequestHead(NamedTuple):
    """One request's head. ``method`` and ``target`` are as sent."""

    method: bytes
    target: bytes
    http_version: str
    headers: RawHeaders
    keep_alive: bool
    body: Decoder
    expects_continue: bool
    takes_trailers: bool
    """``TE: trailers`` (RFC 9110 section 6.5.1)."""
    websocket: bool


def find_head(buffer: bytearray, searched: int, max_size: int) -> int:
    """Where the head at the start of ``buffer`` ends, or -1 when the rest of it has not come.

    The first ``searched`` bytes were looked at before. Raises Refused as soon as it is clear that no head will come of
    it, so that a client that speaks something else is told at once and not when the clock runs out.
    """
    if searched == 0 and buffer and not _FIRST_BYTE.match(buffer):
        raise Refused(400, "not HTTP")
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
    if end >= 0:
        end += 4
    elif _BARE_LF.search(buffer, max(0, searched - 1)):
        raise Refused(400, "a line ends in a bare LF")
    if end > max_size or (end < 0 and len(buffer) > max_size):
        raise Refused(431, "the head is too large")
    return end


def parse_request_head(block: bytes) -> RequestHead:  # noqa: C901, PLR0912, PLR0915 -- one pass; its branches are the RFC's rules
    """The head in ``block``, which ends with its empty line. Raises Refused."""
    line = _REQUEST_LINE.match(block)
    if line is None:
        raise Refused(400, "a malformed request line")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise Refused(505, "not HTTP/1")
    try:
        headers = parse_fields(block, line.end())
    except ProtocolError as error:
        raise Refused(400, str(error)) from None
    if method == b"CONNECT":
        raise Refused(501, "CONNECT is not served")

    host: bytes | None = None
    length: bytes | None = None
    coding: bytes | None = None
    options = expect = upgrade = takes = b""
    doubled = False
    for name, value in headers:
        # A handful of names matter here; their lengths tell nearly every other one apart without lowering its case.
        match len(name):
            case 2 if name.lower() == b"te":
                takes += b"," + value.lower()
            case 4 if name.lower() == b"host":
                if host is not None:
                    raise Refused(400, "two Host fields")
                host = value
            case 6 if name.lower() == b"expect":
                expect = value.lower()
            case 7 if name.lower() == b"upgrade":
                upgrade = value.lower()
            case 10 if name.lower() == b"connection":
                options += b"," + value.lower()
            case 14 if name.lower() == b"content-length":
                if length is not None and value != length:
                    raise Refused(400, "two different lengths")
                doubled = length is not None
                length = value
            case 17 if name.lower() == b"transfer-encoding":
                if coding is not None:
                    raise Refused(400, "two Transfer-Encoding fields")
                coding = value.lower()

    old = minor == b"0"
    if host is None:
        if not old:
            raise Refused(400, "no Host field")
    elif not _HOST.fullmatch(host):
        raise Refused(400, "a malformed Host field")
    body: Decoder
    if coding is not None:
        if length is not None:
            raise Refused(400, "Content-Length beside Transfer-Encoding")
        if old:
            raise Refused(400, "Transfer-Encoding in an HTTP/1.0 message")
        if coding != b"chunked":
            raise Refused(501, "a transfer coding other than chunked")
        body = ChunkedDecoder()
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise Refused(400, "a malformed length")
        body = LengthDecoder(int(length))
        if doubled:
            headers = without_repeats(headers, b"content-length")
    else:
        body = LengthDecoder(0)

    named = {option.strip() for option in options.split(b",")} if options else frozenset()
    websocket = upgrade == b"websocket" and b"upgrade" in named and method == b"GET" and not old
    if websocket and not body.done:
        raise Refused(400, "a WebSocket handshake with a body")
    keep_alive = b"close" not in named and (not old or b"keep-alive" in named)
    expects = expect == b"100-continue" and not old and not body.done
    trailers = not old and b"trailers" in {coding.strip() for coding in takes.split(b",")} if takes else False
    version = "1.0" if old else "1.1"
    return RequestHead(method, target, version, headers, keep_alive, body, expects, trailers, websocket)


class Http2Head(NamedTuple):
    """One HTTP/2 request's head; ``headers`` begin with ``host``, made of ``:authority``."""

    method: bytes
    target: bytes
    headers: RawHeaders
    websocket: bool


def check_http2_head(fields: list[tuple[bytes, bytes]]) -> Http2Head:  # noqa: C901, PLR0912, PLR0915 -- as above
    """RFC 9113 sections 8.2 and 8.3, on decoded fields. Raises Refused.

    h2 has most of these checks itself, but makes a malformed request an error of the connection, so that one bad
    request would cost all the others on it. RFC 9113 section 8.1.1 calls it an error of the stream.
    """
    if len(fields) > MAX_FIELDS:
        raise Refused(431, "too many fields")
    pseudo: dict[bytes, bytes] = {}
    headers: RawHeaders = [(b"host", b"")]
    host: bytes | None = None
    length: bytes | None = None
    crumbs: list[bytes] = []
    for name, value in fields:
        if _CONTROLS.search(value):
            raise Refused(400, "a control character in a value")
        if value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
            raise Refused(400, "white space around a value")
        if name[:1] == b":":
            if len(headers) > 1 or host is not None or name in pseudo:
                raise Refused(400, "a doubled or late pseudo-header")
            pseudo[name] = value
            continue
        if not _H2_NAME.fullmatch(name):
            raise Refused(400, "a malformed field name")
        if name in _OF_THE_CONNECTION or (name == b"te" and value != b"trailers"):
            raise Refused(400, "a field of HTTP/1's connections")
        if name == b"host":
            if host is not None:
                raise Refused(400, "two Host fields")
            host = value
        elif name == b"content-length":
            # h2 looks at it too, but not where the method is HEAD, and not at how many digits it has.
            if not value.isdigit() or len(value) > 18 or (length is not None and value != length):
                raise Refused(400, "a malformed length, or two different ones")
            if length is None:
                headers.append((name, value))
            length = value
        elif name == b"cookie":
            if not crumbs:
                headers.append((name, value))
            crumbs.append(value)
        else:
            headers.append((name, value))

    if len(crumbs) > 1:  # RFC 9113 section 8.2.3; where the first one stood
        at = headers.index((b"cookie", crumbs[0]))
        headers[at] = (b"cookie", b"; ".join(crumbs).strip(b" "))

    method = pseudo.pop(b":method", b"")
    scheme = pseudo.pop(b":scheme", None)
    target = pseudo.pop(b":path", None)
    authority = pseudo.pop(b":authority", host)
    protocol = pseudo.pop(b":protocol", None)
    if pseudo or not _H2_METHOD.fullmatch(method) or (scheme is not None and not _H2_SCHEME.fullmatch(scheme)):
        raise Refused(400, "a malformed pseudo-header")
    if method == b"CONNECT" and protocol != b"websocket":
        raise Refused(501, "CONNECT is not served")
    if scheme is None or target is None or (protocol is not None and method != b"CONNECT"):
        raise Refused(400, "a pseudo-header is missing")
    if not _H2_TARGET.fullmatch(target) or (target[:1] != b"/" and (target != b"*" or method != b"OPTIONS")):
        raise Refused(400, "a malformed path")
    if not authority or not _HOST.fullmatch(authority) or (host is not None and host != authority):
        raise Refused(400, "a malformed or missing authority")
    headers[0] = (b"host", authority)
    return Http2Head(method, target, headers, protocol is not None)


def check_http2_trailers(fields: RawHeaders) -> None:
    """RFC 9113 section 8.1: no pseudo-header fields there, and all else as in a head. Raises Refused."""
    if len(fields) > MAX_FIELDS:
        raise Refused(431, "too many fields")
    for name, value in fields:
        if not _H2_NAME.fullmatch(name) or name in _OF_THE_CONNECTION:
            raise Refused(400, "a malformed field name, or one of HTTP/1's connections")
        if _CONTROLS.search(value) or value.strip(b" \t") != value:
            raise Refused(400, "a control character in a value, or white space around it")
