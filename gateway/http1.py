"""HTTP/1.1 messages as bytes: heads read and written, bodies framed and unframed. RFC 9112.

Everything here is a pure function or a small state machine fed with bytes; nothing waits and nothing knows of
sockets. The reading half is strict, because a proxy that repairs an ambiguous message can be made to disagree with
the next hop about where it ends (RFC 9112 section 11). So there is no bare LF, no obs-fold, no white space before a
colon, no ``Content-Length`` beside ``Transfer-Encoding``, and no transfer coding but ``chunked``.

A head is matched whole by one regular expression rather than line by line: it costs a tenth of a parser that builds
an event per line, and the grammar stands in one place where it can be held against the RFC. Every repetition is
possessive, so that hostile bytes cannot make it backtrack.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

RawHeaders = list[tuple[bytes, bytes]]

MAX_HEAD_SIZE = 65_536
"""Bytes of one message head, or of one trailer section."""
MAX_FIELDS = 256
"""Field lines in one head or trailer section."""
MAX_CHUNK_LINE = 1_024
"""Bytes of one chunk-size line, its extensions included."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# HTAB, SP, VCHAR and obs-text; RFC 9110 section 5.5 forbids every other octet.
TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"

_FIELDS = re.compile(rb"(?:%s:%s\r\n)*+" % (TOKEN, TEXT))
_FIELD = re.compile(rb"([^:\r\n]++):[\t ]*+([^\r\n]*+)\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: (%s))?\r\n" % TEXT)
_VERSION = b"HTTP/1."
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?")


class ProtocolError(Exception):
    """The peer's bytes are not a message, or are an ambiguous one. The text says what, without quoting the bytes."""


class Truncated(ProtocolError):
    """The stream ended inside a message."""


class Decoder(Protocol):
    """A body on its way in. ``done`` turns true with the body's last byte; ``rest`` is what came beyond it."""

    done: bool
    rest: bytes
    trailers: RawHeaders

    def feed(self, data: bytes) -> bytes:
        """Take what arrived, return the content in it (perhaps none yet). Raises ProtocolError."""

    def feed_eof(self) -> None:
        """The stream has ended. Raises Truncated where the body had not."""


class ResponseHead(NamedTuple):
    """The status line and the header section of one response."""

    status: int
    reason: bytes
    minor_version: int
    headers: RawHeaders
    keep_alive: bool
    """Whether the connection outlives this response, as far as the head can tell (RFC 9112 section 9.3)."""
    body: "Decoder"
    """Framed by RFC 9112 section 6.3."""

    @property
    def http_version(self) -> str:
        """As a scope of ASGI has it: ``1.0``, ``1.1``."""
        return f"1.{self.minor_version}"


def find_head_end(buffer: bytes | bytearray, searched: int = 0) -> int:
    """Where the head at the start of ``buffer`` ends (behind its empty line), or -1 when that has not come yet.

    ``searched`` is how many bytes an earlier call has looked at, so that a head that drips in costs no more to find.
    Raises ProtocolError when the head is over MAX_HEAD_SIZE.
    """
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
    if end >= 0:
        end += 4
    elif buffer.count(b"\n", searched) != buffer.count(b"\r\n", max(0, searched - 1)):
        # No empty line will come of it; to wait for one would make a timeout of what is nonsense.
        raise ProtocolError("a line of the head ends in a bare LF")
    if end > MAX_HEAD_SIZE or (end < 0 and len(buffer) > MAX_HEAD_SIZE):
        raise ProtocolError(f"the head is larger than {MAX_HEAD_SIZE} bytes")
    return end


def may_become_response(start: bytes | bytearray) -> bool:
    """Whether a response's head can begin with ``start``, which may be nothing yet.

    What speaks first, a mail server say, or speaks another protocol, need not be waited for until a clock runs out.
    """
    return start[: len(_VERSION)] == _VERSION[: len(start)]


def parse_fields(block: bytes, start: int = 0) -> RawHeaders:
    """The field lines of ``block`` from ``start`` up to its closing empty line, names and values as sent.

    White space around a value is not part of it (RFC 9110 section 5.5). Raises ProtocolError.
    """
    match = _FIELDS.match(block, start)
    # The pattern can match nothing, so there is always a match; what counts is how far it came.
    if match is None or match.end() != len(block) - 2:
        raise ProtocolError("a field line is malformed")
    fields: RawHeaders = _FIELD.findall(block, start)
    # ``in`` would take the bytes for a number first, and find out by an exception that they are none.
    if block.find(b" \r\n") >= 0 or block.find(b"\t\r\n") >= 0:
        fields = [(name, value.rstrip(b"\t ")) for name, value in fields]
    if len(fields) > MAX_FIELDS:
        raise ProtocolError(f"more than {MAX_FIELDS} field lines")
    return fields


def without_repeats(fields: RawHeaders, name: bytes) -> RawHeaders:
    """The same fields, of those with this name (in lower case) only the first."""
    kept: RawHeaders = []
    seen = False
    for field in fields:
        if field[0].lower() == name:
            if seen:
                continue
            seen = True
        kept.append(field)
    return kept


def parse_response_head(  # noqa: C901, PLR0912 -- one pass; its branches are the rules of RFC 9112 section 6.3
    block: bytes, *, method: bytes
) -> ResponseHead:
    """The response head in ``block``, which ends with the empty line; ``method`` is that of the request it answers.

    Raises ProtocolError on anything malformed or ambiguous. Lines of the same ``Content-Length`` are folded into one.
    """
    match = _STATUS_LINE.match(block)
    if match is None:
        raise ProtocolError("the status line is malformed, or is not HTTP/1")
    minor, status, reason = int(match[1]), int(match[2]), match[3] or b""
    fields = parse_fields(block, match.end())

    length: bytes | None = None
    chunked = False
    options = b""
    headers = fields
    for name, value in fields:
        # Three names matter here; their lengths tell nearly every other field apart without lowering its case.
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            if length is None:
                length = value
            elif length != value:
                raise ProtocolError("two different Content-Length values")
            else:
                headers = without_repeats(fields, b"content-length")
        elif size == 17 and name.lower() == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise ProtocolError("a transfer coding other than chunked")
            chunked = True
        elif size == 10 and name.lower() == b"connection":
            options += b"," + value.lower()

    if length is not None:
        if chunked:
            raise ProtocolError("Content-Length beside Transfer-Encoding")
        if not length.isdigit() or len(length) > 18:
            raise ProtocolError("a malformed Content-Length")
    if chunked and minor == 0:
        raise ProtocolError("Transfer-Encoding in an HTTP/1.0 message")

    named = {option.strip() for option in options.split(b",")} if options else frozenset()
    keep_alive = b"close" not in named and (minor > 0 or b"keep-alive" in named)
    body: Decoder
    if method == b"HEAD" or status < 200 or status in (204, 304):
        body = LengthDecoder(0)
        if status == 204 and (chunked or (length is not None and int(length) > 0)):
            keep_alive = False  # who announces a body that cannot be (RFC 9110 section 8.6) may well send it
    elif chunked:
        body = ChunkedDecoder()
    elif length is not None:
        body = LengthDecoder(int(length))
    else:
        body = CloseDecoder()
        keep_alive = False
    return ResponseHead(status, reason, minor, headers, keep_alive, body)


def serialize_request_head(method: bytes, target: bytes, headers: RawHeaders) -> bytes:
    """The request line and header section as they go out.

    Raises ValueError where a part holds CR, LF, NUL or, in the request line, a space: such a head would be read as
    another message than the one that was meant.
    """
    block = b"".join(
        [
            b"%s %s HTTP/1.1\r\n" % (method, target),
            *[b"%s: %s\r\n" % field for field in headers],
            b"\r\n",
        ]
    )
    lines = len(headers) + 2
    if block.count(b"\n") != lines or block.count(b"\r") != lines or block.count(b"\0"):
        raise ValueError("a header field or the request line holds a control character")
    if method.count(b" ") or target.count(b" ") or not target or not method:
        raise ValueError("the request line is malformed")
    return block


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. ``data`` is not empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The end of a chunked body, with the fields behind it. Raises ValueError as ``serialize_request_head``."""
    block = b"".join([b"0\r\n", *[b"%s: %s\r\n" % field for field in trailers], b"\r\n"])
    if block.count(b"\n") != len(trailers) + 2 or block.count(b"\r") != len(trailers) + 2:
        raise ValueError("a trailer field holds a control character")
    return block


LAST_CHUNK = b"0\r\n\r\n"
_HEX_OR_NOTHING = frozenset([b"", *(bytes([digit]) for digit in b"0123456789abcdefABCDEF")])


class LengthDecoder:
    """A body of a known length. A length of 0 is the body that is not there."""

    __slots__ = ("_left", "done", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""
        self.trailers: RawHeaders = []

    def feed(self, data: bytes) -> bytes:
        """See Decoder."""
        if len(data) > self._left:
            self.rest += data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        self.done = self._left == 0
        return data

    def feed_eof(self) -> None:
        """See Decoder."""
        if not self.done:
            raise Truncated(f"the body ended {self._left} bytes short of its Content-Length")


class CloseDecoder:
    """A body that lasts until the connection closes. It cannot be told from one that broke off: RFC 9112 section 8."""

    __slots__ = ("done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: RawHeaders = []

    def feed(self, data: bytes) -> bytes:
        """See Decoder."""
        return data

    def feed_eof(self) -> None:
        """See Decoder."""
        self.done = True


class ChunkedDecoder:
    """A body in chunks (RFC 9112 section 7.1). Chunk extensions are checked for form, then dropped."""

    __slots__ = ("_at", "_buffer", "_left", "_section", "done", "rest", "trailers")

    def __init__(self) -> None:
        # The function and not the method: to hold a method of our own would be a cycle per message.
        self._section: Callable[[ChunkedDecoder, list[bytes]], bool] = ChunkedDecoder._size_line
        self._buffer = b""
        # Where in the buffer we are: cutting it after every chunk would make many small chunks cost their square.
        self._at = 0
        self._left = 0
        self.done = False
        self.rest = b""
        self.trailers: RawHeaders = []

    def feed(self, data: bytes) -> bytes:
        """See Decoder."""
        content: list[bytes] = []
        self._buffer = self._buffer + data if self._buffer else data
        self._at = 0
        while self._section(self, content):
            pass
        self._buffer = self._buffer[self._at :]
        if self.done:
            self.rest, self._buffer = self._buffer, b""
        return content[0] if len(content) == 1 else b"".join(content)

    def feed_eof(self) -> None:
        """See Decoder."""
        if not self.done:
            raise Truncated("the body ended before its last chunk")

    # Each section takes what it can off the buffer and says whether it finished, so that the next one may go on.

    def _size_line(self, _content: list[bytes]) -> bool:
        end = self._buffer.find(b"\r\n", self._at)
        if (end if end >= 0 else len(self._buffer)) - self._at > MAX_CHUNK_LINE:
            raise ProtocolError("a chunk-size line is too long")
        if end < 0:
            # Refuse early what no CRLF can mend: a peer that sends no digits would else be waited for in vain.
            if self._buffer[self._at : self._at + 1] not in _HEX_OR_NOTHING:
                raise ProtocolError("a chunk size is malformed")
            return False
        match = _CHUNK_LINE.fullmatch(self._buffer, self._at, end)
        if match is None:
            raise ProtocolError("a chunk size is malformed")
        self._left = int(match[1], 16)
        self._at = end + 2
        self._section = ChunkedDecoder._data if self._left else ChunkedDecoder._trailer_section
        return True

    def _data(self, content: list[bytes]) -> bool:
        piece = self._buffer[self._at : self._at + self._left]
        if piece:
            content.append(piece)
        self._at += len(piece)
        self._left -= len(piece)
        if self._left:
            return False
        self._section = ChunkedDecoder._data_end
        return True

    def _data_end(self, _content: list[bytes]) -> bool:
        ending = self._buffer[self._at : self._at + 2]
        if not b"\r\n".startswith(ending):
            raise ProtocolError("a chunk is longer than its size")
        if len(ending) < 2:
            return False
        self._at += 2
        self._section = ChunkedDecoder._size_line
        return True

    def _trailer_section(self, _content: list[bytes]) -> bool:
        if self._buffer.startswith(b"\r\n", self._at):
            self._at += 2
        else:
            section = self._buffer[self._at :]
            end = find_head_end(section)
            if end < 0:
                return False
            self.trailers = parse_fields(section[:end])
            self._at += end
        self.done = True
        return False
