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
from hyperframe.frame import GoAwayFrame

from gateway.server.failures import ClientGone
from gateway.server.h2_connection import StreamwiseConnection

if TYPE_CHECKING:
    from gateway.server.connection import Connection

CONTROL_BUFFER = 65_536
"""Bytes of acknowledgements and the like that may wait beyond ``Limits.response_buffer``."""


class FrameSender:
    """Everything but ``run``, ``write_now`` and the two waits is synchronous."""

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

    @property
    def has_waiting(self) -> bool:
        """Some app waits for the socket."""
        return bool(self._socket)

    def _queue(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._size += len(data)
        self._news.unpark_all()
        self.pass_on()

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

        One at a time, and each lets in the next when it is done: to wake all of a hundred whenever there is room for
        one would cost more than the writing.
        """
        if self._socket and not self.is_full:
            self._socket.unpark(count=1)

    def room_for(self, stream_id: int) -> int:
        """Bytes that may go out on a stream in one frame now. Raises h2's ProtocolError when the stream is closed."""
        if self.is_full:
            return 0
        return min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)

    async def wait_for_socket(self) -> None:
        """Until it is this one's turn. There is no clock: the one who writes has it."""
        await self._socket.park()

    async def wait_for_window(self, stream_id: int, deadline: float) -> bool:
        """Until a window may have opened; false when the deadline has passed."""
        self.pass_on()
        lot = self._windows.setdefault(stream_id, trio.lowlevel.ParkingLot())
        with trio.CancelScope(deadline=deadline) as clock:
            await lot.park()
        return not clock.cancelled_caught

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
