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
    """Everything but ``run``, ``write_now`` and ``wait_for_room`` is synchronous."""

    def __init__(self, link: "Connection", h2: StreamwiseConnection) -> None:
        self._link = link
        self._h2 = h2
        self._limit = link.limits.response_buffer
        self._outgoing: list[bytes] = []
        self._size = 0
        self._news = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

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

    def _queue(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._size += len(data)
        self._news.unpark_all()

    def wake(self) -> None:
        """Let ``run`` look again whether it is finished."""
        self._news.unpark_all()

    def wake_apps(self) -> None:
        """Let those who wait for room look again: a window has opened, or their stream is closed."""
        self._room.unpark_all()

    def room_for(self, stream_id: int) -> int:
        """Bytes that may go out on a stream in one frame now. Raises h2's ProtocolError when the stream is closed."""
        if self._size >= self._limit:
            return 0
        return min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)

    async def wait_for_room(self, deadline: float) -> bool:
        """Until there may be more room; false when the deadline has passed."""
        with trio.CancelScope(deadline=deadline) as clock:
            await self._room.park()
        return not clock.cancelled_caught

    async def write_now(self) -> None:
        """Write what waits, and return when it is written. Raises ClientGone."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if data:
            await self._link.write(data)
            was_congested = self.is_congested
            self._size -= len(data)
            self._room.unpark_all()
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
