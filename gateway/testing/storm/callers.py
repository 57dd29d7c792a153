"""What clients do in a storm, over HTTP/1.1 and HTTP/2.

What lives here: one function per protocol that makes one request in the way its event says and notes what came back,
and the connections that requests share. What never will: whether that was right; but for bytes of somebody else's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from gateway.testing.clients import RawClient, raw_client
from gateway.testing.http2 import H2Client, h2_client
from gateway.testing.network import Network
from gateway.testing.peer import NotHTTPError, PeerGoneError
from gateway.testing.storm.books import UPLOADS, WITHOUT_SERVICE, Entry, name_of
from gateway.testing.storm.moods import FOREIGN

MAX_BODY: Final = 400_000
"""Of the gateway's settings; "too large" is more."""
BIG: Final = 200_000
LANES: Final = 16
"""Connections of HTTP/2 that requests share."""


class Caller:
    """The clients of a storm. ``unit`` is seconds per unit. Runs its connections' readers in ``nursery``."""

    def __init__(self, network: Network[Any], nursery: trio.Nursery, unit: float) -> None:
        self._network = network
        self._nursery = nursery
        self._unit = unit
        self._idle: list[RawClient] = []
        self._lanes: dict[int, H2Client] = {}
        self._opening = trio.Lock()
        self._h1: dict[Entry, RawClient] = {}
        self._h2: dict[Entry, H2Client] = {}
        self._scopes: dict[Entry, trio.CancelScope] = {}

    def expect(self, entry: Entry) -> None:
        """Take note of a request whose :meth:`call` is about to be started: it may be cancelled before it is."""
        self._scopes[entry] = trio.CancelScope()

    async def call(self, entry: Entry) -> None:
        """Make the request and note what came of it. Cancelled, its connection is closed."""
        with self._scopes[entry]:
            try:
                await (self._over_http2 if entry.event.protocol == "2" else self._over_http1)(entry)
            except OSError:  # the gateway does not listen any more
                entry.unread = True
            except (PeerGoneError, trio.ClosedResourceError):  # by the gateway, or by an event
                pass
            except NotHTTPError as error:
                entry.wrong = str(error)
        del self._scopes[entry]

    def cancel(self, entry: Entry) -> None:
        """Give a request up: its connection is closed, or its stream reset."""
        entry.left = True
        self._scopes[entry].cancel()

    def disconnect(self, entry: Entry) -> list[Entry]:
        """Reset the connection of a request; tell which requests went over it."""
        if connection := self._h2.get(entry):
            torn = [each for each, other in self._h2.items() if other is connection]
            connection.abort()
        else:
            torn = [entry]
            if entry in self._h1:
                self._h1[entry].reset()
            self._scopes[entry].cancel()
        for each in torn:
            each.left = True
        return torn

    def close(self) -> None:
        """Close what is idle."""
        for client in self._idle:
            client.close()
        for connection in self._lanes.values():
            connection.close()

    async def _over_http1(self, entry: Entry) -> None:
        event = entry.event
        if event.lane and self._idle:
            client = self._idle.pop(event.lane % len(self._idle))
            entry.unread = True  # the gateway may be about to close it
        else:
            client = await raw_client(self._network)
        self._h1[entry] = client
        keep = False
        try:
            await _CONDUCTS_1.get(event.conduct, _asks)(client, entry, self._unit)
            keep = await _read(client, entry)
        finally:
            del self._h1[entry]
            if keep:
                self._idle.append(client)
            else:
                client.close()

    async def _over_http2(self, entry: Entry) -> None:
        event = entry.event
        async with self._connection(entry) as client:
            headers = [(b"x-request-id", name_of(event).encode("ascii"))]
            uploads = event.conduct in UPLOADS
            if event.conduct == "too large":
                headers.append((b"content-length", b"%d" % (MAX_BODY + 1)))
            method = b"POST" if uploads else b"GET"
            stream = None
            try:
                stream = await client.request(path_of(entry), method=method, headers=headers, end=not uploads)
                if uploads:
                    for pause, piece, last in _pieces(event.conduct):
                        await trio.sleep(pause * self._unit)
                        await client.send(stream, piece, end=last)
                while not stream.over:
                    await client.wait_for_news()
            except BaseException:
                if stream is not None:
                    client.give_up(stream)
                self._nursery.start_soon(_flush, client)
                raise
            finally:
                if stream is not None:
                    entry.status, entry.whole = stream.status, stream.ended
                    del client.streams[stream.number]
            # Beneath a GOAWAY or the end of its connection it may never have been read: RFC 9113 section 6.8.
            entry.unread = client.closed or client.goaway is not None
            _look_at(entry, bytes(stream.body))

    @asynccontextmanager
    async def _connection(self, entry: Entry) -> AsyncIterator[H2Client]:
        own = entry.event.conduct == "never reads"
        lane = entry.event.lane % LANES
        client = None if own else self._lanes.get(lane)
        if client is None or client.full:
            async with self._opening:
                client = None if own else self._lanes.get(lane)
                if client is None or client.full:
                    client = await h2_client(self._network, greedy=not own, window=100 if own else None)
                    try:
                        await client.__aenter__()  # it is not left with this block
                    except BaseException:
                        client.close()
                        raise
                    self._nursery.start_soon(client.run)
                    if not own:
                        before, self._lanes[lane] = self._lanes.get(lane), client
                        if before is not None:
                            self._nursery.start_soon(_close_when_done, before)
        self._h2[entry] = client
        try:
            yield client
        finally:
            del self._h2[entry]
            if own:
                client.close()


async def _close_when_done(client: H2Client) -> None:
    while client.streams and not client.closed:
        await client.wait_for_news()
    client.close()


async def _flush(client: H2Client) -> None:
    try:
        await client.flush()
    except PeerGoneError:
        return


def path_of(entry: Entry) -> bytes:
    """The target of a request."""
    event = entry.event
    if event.conduct == "own":
        return b"/livez"
    if event.conduct == "nowhere":
        return b"/nowhere"
    return f"/api/{event.service}/{name_of(event)}?mood={event.mood.replace(' ', '+')}".encode("ascii")


def _look_at(entry: Entry, body: bytes) -> None:
    """Whether the body is the one that was meant for this request."""
    event = entry.event
    if entry.status != 200 or not entry.whole or event.conduct in WITHOUT_SERVICE or event.mood.startswith(FOREIGN):
        return
    mark = name_of(event).encode("ascii") + b";"
    if body and not body.startswith(mark):
        entry.wrong = f"somebody else's answer: {body[:40]!r}"


async def _read(client: RawClient, entry: Entry) -> bool:
    """Read the answer; tell whether the connection is kept."""
    while True:
        response = await client.read_head_of_response()
        if response.status >= 200:
            break
    entry.status = response.status
    await client.read_body_of(response, to_end=True)
    if response.get(b"content-length") is None and not response.all(b"transfer-encoding") and client.was_reset:
        return False
    entry.whole = True
    _look_at(entry, response.body)
    return client.gone_at is None and b"close" not in response.all(b"connection")


def _head(entry: Entry, more: bytes = b"", method: bytes = b"GET") -> bytes:
    name = name_of(entry.event).encode("ascii")
    return b"%b %b HTTP/1.1\r\nhost: gateway\r\nx-request-id: %b\r\n%b\r\n" % (method, path_of(entry), name, more)


async def _asks(client: RawClient, entry: Entry, unit: float) -> None:  # noqa: ARG001 - the form of a conduct
    await client.send(_head(entry))


async def _dribbles(client: RawClient, entry: Entry, unit: float) -> None:
    head = _head(entry)
    for piece in (head[:9], head[9:40], head[40:]):
        entry.unread = piece is not head[40:]
        await client.send(piece)
        await trio.sleep(unit)


async def _reads_slowly(client: RawClient, entry: Entry, unit: float) -> None:
    await client.send(_head(entry))
    await trio.sleep(unit * 5)


async def _never_reads(client: RawClient, entry: Entry, unit: float) -> None:
    await client.send(_head(entry))
    entry.left = True
    await trio.sleep(unit * 60)


async def _uploads(client: RawClient, entry: Entry, unit: float) -> None:
    conduct = entry.event.conduct
    length = {"upload": 1000, "big": BIG, "stalls": 1000, "half-closes": 1000, "too large": MAX_BODY + 1}.get(conduct)
    framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
    await client.send(_head(entry, framing, b"POST"))
    try:
        for pause, piece, last in _pieces(conduct):
            await trio.sleep(pause * unit)
            if length is not None:
                await client.send(piece)
                continue
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
            if last:
                await client.send(b"0\r\n\r\n")
        if conduct == "half-closes":
            entry.left = True
            await client.half_close()
    except PeerGoneError:
        return  # it may have answered before


def _pieces(conduct: str) -> list[tuple[float, bytes, bool]]:
    """The pieces of a body as they are sent: units to wait before, the bytes, and whether it is the last."""
    match conduct:
        case "upload":
            return [(0, b"u" * 1000, True)]
        case "streams":
            return [(0, b"some", False), (1, b"some", False), (1, b"some", False), (1, b"", True)]
        case "big":
            return [(0, b"b" * 20_000, at + 20_000 >= BIG) for at in range(0, BIG, 20_000)]
        case _:
            return [(0, b"begun", False)]


_CONDUCTS_1: dict[str, Callable[[RawClient, Entry, float], Awaitable[None]]] = {
    "dribbles": _dribbles,
    "reads slowly": _reads_slowly,
    "never reads": _never_reads,
    **dict.fromkeys(UPLOADS, _uploads),
}
