"""HTTP/1.1 read strictly, by a reader that shares no code with the gateway.

What lives here: bytes from a stream, taken apart by RFC 9112, anything else being a fault that a case is told of. What
never will: repairing.
"""

import re
from typing import Protocol

import trio

from .messages import Arrived, Got, Seen

FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: (.*))?")
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) (HTTP/1\.[01])")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class Malformed(Exception):
    """The other end sent what is no message."""


class Ended(Exception):
    """The other end closed or reset, in the midst of what was read. The text says how."""


class Reader:
    """Messages from a stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.ended = ""
        """``closed`` or ``reset`` once the other end is gone."""

    async def more(self) -> bool:
        """Read some more into the buffer. Gives whether there was any."""
        if not self.ended:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.ended = "reset"
            else:
                self.buffer += data
                if not data:
                    self.ended = "closed"
        return not self.ended

    async def line(self) -> bytes:
        """A line without its CRLF. Raises Malformed where it ends in a bare LF, and Ended."""
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            if searched > 1_000_000:
                raise Malformed("a line without end")
            if not await self.more():
                raise Ended(self.ended)
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise Malformed(f"a bare LF after {line[-60:]!r}")
        return line[:-2]

    async def field_section(self) -> list[tuple[bytes, bytes]]:
        """Field lines up to the empty line."""
        fields = []
        while line := await self.line():
            match = FIELD.fullmatch(line)
            if match is None or CONTROL.search(match[2]):
                raise Malformed(f"no field line: {line!r}")
            fields.append((match[1], match[2]))
        return fields

    async def request_head(self) -> Seen | None:
        """The head of a request; None where the other end leaves before it begins."""
        if not self.buffer and not await self.more():
            return None
        line = await self.line()
        match = REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"no request line: {line!r}")
        return Seen(await self.field_section(), method=match[1], target=match[2], version=match[3])

    async def response_head(self) -> Got:
        """The head of a response, final or not."""
        line = await self.line()
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"no status line: {line!r}")
        fields = await self.field_section()
        return Got(fields, status=int(match[2]), reason=match[3] or b"", version=match[1])

    async def body(
        self, message: Arrived, *, none: bool = False, to_end: bool = False, until: int | None = None
    ) -> None:
        """Read the body of ``message`` into it, to its end or ``until`` so many bytes of it are there.

        ``none`` for what has no body whatever it announces, ``to_end`` for what ends with the connection if nothing
        frames it. Goes on where it stopped. Raises Malformed and Ended.
        """
        if not hasattr(message, "_framing"):
            message._framing = framing(message, none=none, to_end=to_end)  # type: ignore[attr-defined]  # noqa: SLF001 - the reader's own note on it
        state: Framing = message._framing  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        while not message.complete and (until is None or message.body.size < until):
            await state.read(self, message)


def framing(message: Arrived, *, none: bool, to_end: bool) -> "Framing":
    """How the body ends: RFC 9112 section 6.3. Raises Malformed on what is ambiguous."""
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    if lengths and codings:
        raise Malformed("Content-Length beside Transfer-Encoding")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise Malformed(f"lengths {lengths}")
    if codings and [each.lower() for each in codings] != [b"chunked"]:
        raise Malformed(f"transfer codings {codings}")
    if none:
        return ByLength(0)
    if codings:
        return Chunks()
    if lengths:
        return ByLength(int(lengths[0]))
    return ToEnd() if to_end else ByLength(0)


class Framing(Protocol):
    """Reads some more of a body."""

    async def read(self, reader: Reader, message: Arrived) -> None:
        """Read some, and set ``complete`` at the end."""


class ByLength:
    """A body of so many bytes."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def read(self, reader: Reader, message: Arrived) -> None:
        """See Framing."""
        if self.left:
            self.left -= await _take(reader, message, self.left)
        message.complete = not self.left


class ToEnd:
    """A body that ends with the connection."""

    async def read(self, reader: Reader, message: Arrived) -> None:
        """See Framing."""
        if isinstance(message, Got):
            message.to_end = True
        if reader.buffer or await reader.more():
            await _take(reader, message, len(reader.buffer))
        elif reader.ended == "closed":
            message.complete = True
        else:
            raise Ended(reader.ended)


class Chunks:
    """A chunked body."""

    def __init__(self) -> None:
        self.left = 0

    async def read(self, reader: Reader, message: Arrived) -> None:
        """See Framing."""
        if not self.left:
            line = await reader.line()
            size = SIZE.fullmatch(line)
            if size is None:
                raise Malformed(f"no chunk size: {line!r}")
            self.left = int(size[1], 16)
            if not self.left:
                message.trailers = await reader.field_section()
                message.complete = True
                return
        self.left -= await _take(reader, message, self.left)
        if not self.left and (end := await reader.line()):
            raise Malformed(f"a chunk is longer than its size: {end!r}")


async def _take(reader: Reader, message: Arrived, most: int) -> int:
    if not reader.buffer and not await reader.more():
        raise Ended(reader.ended)
    data = bytes(reader.buffer[:most])
    del reader.buffer[:most]
    message.body.add(data)
    return len(data)
