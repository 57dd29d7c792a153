"""A request's body on its way to the app: what has come and has not been asked for.

What lives here: a queue that never blocks the one who fills it. Stock Hypercorn uses a channel of ten messages there,
and an app that answers without reading then waits for itself: its last ``send`` for the reader, the reader for room in
the channel. Here the bound is bytes, and it is the client who is held back, by whoever reads the connection.
"""

from collections import deque
from collections.abc import Callable

import trio
from hypercorn.typing import ASGIReceiveEvent

GATHER = 65_536
"""Bytes up to which pieces are handed over as one."""
CRUMB = 1_024
"""Bytes below which a piece is kept with the one before. A client may send two bytes at a time, and each piece that is
kept by itself takes fifty more."""


def _nobody(_size: int) -> None:
    """Nobody is to be told any more."""


class Inbox:
    """``put``, ``end`` and ``leave`` are for the connection, ``get`` is the app's ``receive``."""

    __slots__ = ("_consumed", "_end_told", "_left", "_pieces", "_waiting", "ended", "size")

    def __init__(self, consumed: Callable[[int], None]) -> None:
        self.size = 0
        """Bytes that wait for the app."""
        self.ended = False
        """The body is whole, read or not."""
        self._pieces: deque[bytes] = deque()
        self._end_told = False
        self._left = False
        self._consumed = consumed
        self._waiting: trio.lowlevel.ParkingLot | None = None  # made when somebody waits: most bodies are there or not

    def put(self, data: bytes) -> None:
        """A piece of the body has come."""
        if not self._left:
            if self._pieces and len(data) < CRUMB and len(self._pieces[-1]) < CRUMB:
                self._pieces[-1] += data
            else:
                self._pieces.append(data)
            self.size += len(data)
            self._wake()

    def end(self) -> None:
        """The body is whole."""
        self.ended = True
        self._wake()

    def leave(self) -> None:
        """The client has left, or the exchange is over: ``http.disconnect`` from now on.

        What was unread is dropped: a body that nobody can answer is of no use, and half of one must not look whole.
        """
        self._left = True
        self._pieces.clear()
        self.size = 0
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.unpark_all()

    def forget(self) -> None:
        """The app has ended: let go of whom it told of what it took, so that no cycle is left to be collected."""
        self._consumed = _nobody

    def is_ready(self) -> bool:
        """Whether ``get`` would return at once."""
        return self._left or self.size > 0 or self.ended

    async def get(self) -> ASGIReceiveEvent:
        """The next ASGI event. The last piece of a body says that it is the last, where that is known by then."""
        while True:
            if self._left:
                return {"type": "http.disconnect"}
            if self._pieces:
                data = self._take()
                more = bool(self._pieces) or not self.ended
                self._end_told = not more
                self._consumed(len(data))
                return {"type": "http.request", "body": data, "more_body": more}
            if self.ended and not self._end_told:
                self._end_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._waiting is None:
                self._waiting = trio.lowlevel.ParkingLot()
            await self._waiting.park()

    def _take(self) -> bytes:
        if len(self._pieces) > 1 and self.size <= GATHER:
            data = b"".join(self._pieces)
            self._pieces.clear()
        else:
            data = self._pieces.popleft()
        self.size -= len(data)
        return data
