"""HTTP/2 frames on their way to the socket.

What lives here: the one task per connection that writes, and the waiting of those who have frames to make. What never
will: which frames those are.

Frames gather while a write is under way, and go out together. The bound is bytes: over it, apps wait; far over it (a
client that asks without end and reads nothing) the client is not read any more either.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame

from gateway.server.failures import ClientGone
from gateway.server.h2_connection import StreamwiseConnection

if TYPE_CHECKING:
    from gateway.server.connection import Connection

CONTROL_BUFFER = 65_536
"""Bytes of acknowledgements and the like that may wait beyond ``Limits.response_buffer``."""
TURN = 65_536
"""Bytes that one stream may write in a row while others wait."""


class Stalled(ClientGone):
    """A stream's window stayed shut for ``client_timeout``."""


class FrameSender:
    """Everything but ``pour``, ``write_now`` and ``run`` is synchronous."""

    def __init__(self, link: "Connection", h2: StreamwiseConnection) -> None:
        self._link = link
        self._h2 = h2
        self._limit = link.limits.response_buffer
        self._outgoing: list[bytes] = []
        self._size = 0
        self._news = trio.lowlevel.ParkingLot()
        self._socket = trio.lowlevel.ParkingLot()
        """Apps that wait for the socket, in their order."""
        self._windows: dict[int, trio.lowlevel.ParkingLot] = {}
        """Apps that wait for a window, by stream."""

    @property
    def is_congested(self) -> bool:
        """So much waits for the socket that the client should not be asked for more to answer."""
        return self._size > self._limit + CONTROL_BUFFER

    def gather(self) -> None:
        """Take over what the state machine has to send."""
        data = self._h2.data_to_send()
        if data:
            self._queue(data)

    def goaway(self, last_stream_id: int, code: ErrorCodes) -> None:
        """GOAWAY, past h2: its own would close the state machine, and answers in flight could not be sent."""
        self.gather()
        self._queue(GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code).serialize())

    @property
    def is_full(self) -> bool:
        """Enough waits for the socket: apps are to wait too."""
        return self._size >= self._limit

    def _queue(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._size += len(data)
        if self._news:
            self._news.unpark_all()

    def wake(self) -> None:
        """Let ``run`` look again whether it is finished."""
        self._news.unpark_all()

    def window_opened(self, stream_id: int) -> None:
        """Let the app of this stream look again; stream 0: all that wait for a window."""
        for lot in list(self._windows.values()) if stream_id == 0 else [self._windows.get(stream_id)]:
            if lot is not None:
                lot.unpark_all()

    def streams_closed(self) -> None:
        """Let all look again, whether it was theirs."""
        self.window_opened(0)
        self._socket.unpark_all()

    def forget(self, stream_id: int) -> None:
        """The stream is over: who waits for its window may look again and find that out."""
        lot = self._windows.pop(stream_id, None)
        if lot is not None:
            lot.unpark_all()

    def pass_on(self) -> None:
        """Let the next one in who waits for the socket, if there is room.

        One at a time, and each lets in the next when its own turn is over, not sooner: to wake all of a hundred
        whenever there is room for one would cost more than the writing, and whoever is woken to find no room has lost
        its place in the line.
        """
        if self._socket and not self.is_full:
            self._socket.unpark(count=1)

    async def pour(
        self,
        stream_id: int,
        data: bytes,
        *,
        end: bool,
        wanted: Callable[[], bool],
        torn: Callable[[], None] = lambda: None,
    ) -> None:
        """Make frames of it as the windows and the socket allow, and return when the last is made.

        Raises ClientGone when the stream is closed or not ``wanted`` any more, and Stalled, which is one, when its
        window stays shut for too long. Cancelled, what is made is made; ``torn`` is called where that is a part.
        """
        made = 0

        def note(size: int) -> None:
            nonlocal made
            made += size

        try:
            await self._pour(stream_id, memoryview(data), end=end, wanted=wanted, note=note)
        except trio.Cancelled:
            if made:
                torn()
            raise
        finally:
            self.pass_on()

    async def _pour(
        self, stream_id: int, rest: memoryview, *, end: bool, wanted: Callable[[], bool], note: Callable[[int], None]
    ) -> None:
        deadline: float | None = None
        turn = 0
        while rest or end:
            if not wanted():
                raise ClientGone("the client has left")
            size = self._make_frame(stream_id, rest, end=end)
            if size == len(rest):
                return
            if size:
                rest = rest[size:]
                note(size)
                turn += size
                deadline = None
            if self.is_full or (turn >= TURN and self._socket):
                turn = 0
                self.pass_on()
                # No clock here: the one who writes has it. A slow client is slow for all of its streams.
                await self._socket.park()
            elif not size:
                # The window is shut, and a client that lets it stay shut is cut off; others may open and close theirs.
                deadline = deadline or trio.current_time() + self._link.limits.client_timeout
                await self._wait_for_window(stream_id, deadline)

    def _make_frame(self, stream_id: int, rest: memoryview, *, end: bool) -> int:
        """One DATA frame, as large as may be now. Gives its size; 0 where there is no room, or nothing but an end."""
        try:
            window = self._h2.local_flow_control_window(stream_id)
            size = 0 if self.is_full else max(0, min(len(rest), window, self._h2.max_outbound_frame_size))
            if size or not rest:
                self._h2.send_data(stream_id, bytes(rest[:size]), end_stream=end and size == len(rest))
        except (ProtocolError, KeyError) as error:
            raise ClientGone("the stream is closed") from error
        self.gather()
        return size

    async def _wait_for_window(self, stream_id: int, deadline: float) -> None:
        self.pass_on()
        lot = self._windows.setdefault(stream_id, trio.lowlevel.ParkingLot())
        with trio.CancelScope(deadline=deadline) as clock:
            await lot.park()
        if clock.cancelled_caught:
            raise Stalled("the client was too slow to read")

    async def write_now(self) -> None:
        """Write what waits, and return when it is written. Raises ClientGone."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if data:
            await self._link.write(data)
            was_congested = self.is_congested
            self._size -= len(data)
            self.pass_on()
            if was_congested:
                self._link.read_on()

    async def run(self, finished: Callable[[], bool]) -> bool:
        """Write until ``finished`` and nothing waits (true), or the client has left (false)."""
        while not self._link.gone:
            if self._outgoing:
                try:
                    await self.write_now()
                except ClientGone:
                    return False
            elif finished():
                return True
            else:
                await self._news.park()
        return False
