"""One end of an HTTP/1.1 connection in the hands of a script: it reads messages, and it sends bytes.

What lives here: a deliberately small reader of messages that is not the gateway's, so that the two do not share their
mistakes; and a book of what arrived when, byte for byte. What never will: repairing, checking or writing messages. A
script says the bytes that it means, wrong ones above all.
"""

from dataclasses import dataclass, field
from typing import Self

import trio

from gateway.testing import sockets
from gateway.testing.streams import Address

Headers = list[tuple[bytes, bytes]]


class PeerGoneError(Exception):
    """The other end has left: in the middle of what was read, or before what was sent."""


class NotHTTPError(AssertionError):
    """What the other end sent is not a message that this reader knows: nearly always a defect of the sender."""


@dataclass
class Message:
    """A request or a response as it came. Header names and values are raw bytes, in order, duplicates kept."""

    head: bytes
    """Start line and header lines as they came, the empty line included."""
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Take a head apart. :raises NotHTTPError: a header line has no colon."""
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        return cls(head=head, headers=_fields(lines[1:]))

    @property
    def start(self) -> tuple[bytes, bytes, bytes]:
        """The three parts of the start line, missing ones empty."""
        first, second, third = [*self.head.partition(b"\r\n")[0].split(b" ", 2), b"", b""][:3]
        return first, second, third

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the header ``name``, in order; case does not matter."""
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def get(self, name: bytes) -> bytes | None:
        """The only value of the header ``name``, or None. :raises NotHTTPError: it stands there more than once."""
        values = self.all(name)
        if len(values) > 1:
            raise NotHTTPError(f"{name!r} stands {len(values)} times in {self.head!r}")
        return values[0] if values else None


class Request(Message):
    """A request as it came."""

    @property
    def method(self) -> bytes:
        """First part of the request line."""
        return self.start[0]

    @property
    def target(self) -> bytes:
        """Second part of the request line."""
        return self.start[1]

    @property
    def version(self) -> bytes:
        """Third part of the request line: ``HTTP/1.1``."""
        return self.start[2]


class Response(Message):
    """A response as it came."""

    @property
    def status(self) -> int:
        """Second part of the status line."""
        return int(self.start[1])

    @property
    def reason(self) -> bytes:
        """Third part of the status line."""
        return self.start[2]


class Peer:
    """One end of a connection, over memory or sockets, with TLS or without.

    Everything here waits as long as it takes: who wants a deadline sets one round it.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.local_address: Address
        self.remote_address: Address | None
        self.local_address, self.remote_address = sockets.addresses(stream)
        self.arrivals: list[tuple[float, bytes]] = []
        """What arrived: ``trio.current_time()``, and the bytes."""
        self.gone_at: float | None = None
        """When the other end was seen to end, close or reset: ``trio.current_time()``."""
        self.was_reset = False
        """Whether it left with a reset, not with an end."""
        self.closed = False
        """Whether this end was closed or reset, by whomever."""
        self._unparsed = bytearray()
        self._reading = False
        self._over = trio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    @property
    def received(self) -> bytes:
        """Every byte that arrived, in order, parsed or not."""
        return b"".join(data for _, data in self.arrivals)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Read what is there, at least one byte; ``b""`` once the other end has ended or reset."""
        if self._unparsed:
            data = bytes(self._unparsed[:max_bytes])
            del self._unparsed[:max_bytes]
            await trio.lowlevel.checkpoint()
            return data
        self._reading = True
        try:
            data = bytes(await self.stream.receive_some(max_bytes))
        except trio.BrokenResourceError:
            self.was_reset = True
            data = b""
        finally:
            self._reading = False
        if data:
            self.arrivals.append((trio.current_time(), data))
        else:
            self._note_gone()
        return data

    async def read_exactly(self, count: int) -> bytes:
        """Read ``count`` bytes. :raises PeerGoneError: there are fewer."""
        while len(self._unparsed) < count:
            await self._read_more()
        data = bytes(self._unparsed[:count])
        del self._unparsed[:count]
        return data

    async def read_until(self, mark: bytes) -> bytes:
        """Read up to and including ``mark``. :raises PeerGoneError: it did not come."""
        while (at := self._unparsed.find(mark)) < 0:
            await self._read_more()
        return await self.read_exactly(at + len(mark))

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read next."""
        self._unparsed[:0] = data

    async def read_to_end(self) -> bytes:
        """Read until the other end ends or resets, and return that."""
        data = bytearray()
        while more := await self.receive():
            data += more
        return bytes(data)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are. :raises PeerGoneError: the other end is closed or has reset."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            self.was_reset = True
            self._note_gone()
            raise PeerGoneError(f"it left before it took {data[:60]!r}") from error

    async def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""
        await trio.sleep(seconds)

    def close(self) -> None:
        """Close at once: a FIN, or a RST where bytes were left unread."""
        sockets.close(self.stream)
        self.closed = True
        self._over.set()

    def reset(self) -> None:
        """Close at once with a RST."""
        sockets.reset(self.stream)
        self.closed = True
        self._over.set()

    async def half_close(self) -> None:
        """End this direction and go on reading. Under TLS too it is the carrier's FIN, without a TLS goodbye."""
        try:
            await sockets.carrier(self.stream).send_eof()
        except trio.BrokenResourceError as error:
            raise PeerGoneError("it left before the end was sent") from error

    async def wait_closed(self, *, reading: bool = True) -> float:
        """Wait until the other end ends or resets; return ``trio.current_time()`` of that.

        What it sends meanwhile is read and kept in ``received``, by whichever task is reading. With ``reading=False``
        nothing is read, as a peer that has stopped reading does; see ``sockets.wait_for_hangup`` for what is then seen.

        :raises trio.ClosedResourceError: this end was closed first.
        """
        if not reading and self.gone_at is None:
            await sockets.wait_for_hangup(self.stream)
            self._note_gone()
        while self.gone_at is None:
            if self._reading:
                await self._over.wait()
            else:
                await self.receive()
        return self.gone_at

    def _note_gone(self) -> None:
        if self.gone_at is None:
            self.gone_at = trio.current_time()
            self._over.set()

    async def _read_more(self) -> None:
        kept, self._unparsed = self._unparsed, bytearray()
        try:
            more = await self.receive()
        finally:
            self._unparsed = kept
        if not more:
            raise PeerGoneError(f"it {'reset' if self.was_reset else 'ended'} after {bytes(kept[-60:])!r}")
        self._unparsed += more

    async def _read_chunked(self) -> tuple[bytes, Headers]:
        body = bytearray()
        while True:
            line = await self.read_until(b"\r\n")
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise NotHTTPError(f"not a chunk size: {line!r}") from None
            if size == 0:
                break
            body += await self.read_exactly(size)
            if await self.read_exactly(2) != b"\r\n":
                raise NotHTTPError(f"a chunk is longer than its size {line!r}")
        lines = []
        while (line := await self.read_until(b"\r\n")) != b"\r\n":
            lines.append(line.removesuffix(b"\r\n"))
        return bytes(body), _fields(lines)

    async def read_body_of(self, message: Message, *, to_end: bool) -> None:
        """Read the body that follows on ``message``'s head into it; where nothing tells its length, none or all.

        :raises PeerGoneError: it broke off.
        :raises NotHTTPError: bad chunks, or two lengths.
        """
        if message.all(b"transfer-encoding") == [b"chunked"]:
            message.body, message.trailers = await self._read_chunked()
        elif (length := message.get(b"content-length")) is not None:
            message.body = await self.read_exactly(int(length))
        elif to_end:
            message.body = await self.read_to_end()


def _fields(lines: list[bytes]) -> Headers:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise NotHTTPError(f"not a header line: {line!r}")
        fields.append((name, value.strip(b" \t")))
    return fields
