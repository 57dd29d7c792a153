"""The connections to one origin: who has one, who may open one, which may be used again.

State moves in synchronous steps, between which nothing can be cancelled; the two waits, for a slot and for a connection
to open, each give back what they hold when they are. That is what makes the pool safe under cancellation: no
bookkeeping is left to an ``await`` that may not run. (httpcore's pool assigns a connection to a waiter and relies on
the waiter to wake: https://github.com/encode/httpcore/issues/1093.)
"""

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from gateway.errors import Phase
from gateway.transport.connection import Connection, Hooks

MAX_IDLE = 1_024
"""Idle connections kept per origin. As many were in use at once within IDLE_SECONDS: to keep fewer than a thousand
clients need makes nearly every one of their requests open a connection, which costs more than the request."""
IDLE_SECONDS = 60.0
"""Seconds of trio's clock that an idle connection is kept."""


class Pool:
    """See the module's docstring. ``max_connections`` of 0 sets no bound."""

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[Connection]],
        *,
        max_connections: int = 0,
        max_idle: int = MAX_IDLE,
        origin: str = "",
    ) -> None:
        self._max_idle = max_idle
        self._open_connection = open_connection
        self._origin = origin
        # A slot is held by a lease, not by a connection: an idle connection gave its slot back. The bound holds all
        # the same, because a connection is only opened by a lease that finds no idle one.
        self._slots = trio.Semaphore(max_connections, max_value=max_connections) if max_connections else None
        self._idle: deque[tuple[Connection, float]] = deque()
        self._leased: set[Connection] = set()

    def __repr__(self) -> str:
        waiting = self._slots.statistics().tasks_waiting if self._slots else 0
        return f"<Pool {self._origin}: {len(self._leased)} leased, {len(self._idle)} idle, {waiting} waiting>"

    @property
    def leased(self) -> int:
        """Connections that carry an exchange now."""
        return len(self._leased)

    @property
    def idle(self) -> int:
        """Connections that wait for one."""
        return len(self._idle)

    async def lease(self, hooks: Hooks, *, fresh: bool = False) -> Connection:
        """A connection for one exchange: the one idle for the shortest time, else a new one.

        ``fresh`` asks for a new one in any case. Raises what opening raises. Cancelled while waiting for a slot or for
        the connection to open, it holds nothing.
        """
        if self._slots is not None:
            hooks.enter_phase(Phase.QUEUE)
            await self._slots.acquire()
        connection = None if fresh else self._take_idle()
        if connection is None:
            if fresh and self._slots is not None and self._idle:
                # It may stand in the way of the bound, and it is as old as the one that was found dead.
                self._idle.popleft()[0].abort()
            hooks.enter_phase(Phase.CONNECT)
            try:
                connection = await self._open_connection()
            except BaseException:
                self._release_slot()
                raise
        self._leased.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """End a lease. What is fit for another exchange is kept, the rest is closed. Again is harmless."""
        if connection not in self._leased:
            return
        self._leased.remove(connection)
        self._release_slot()
        if connection.reusable:
            self._idle.append((connection, trio.current_time()))
            if len(self._idle) > self._max_idle:
                self._idle.popleft()[0].abort()
        else:
            connection.abort()

    def sweep(self) -> None:
        """Close the idle connections that their backend has closed, that hold unasked bytes, or that grew old."""
        oldest = trio.current_time() - IDLE_SECONDS
        kept: deque[tuple[Connection, float]] = deque()
        for connection, since in self._idle:
            if since <= oldest or connection.is_stale():
                connection.abort()
            else:
                kept.append((connection, since))
        self._idle = kept

    def close(self) -> None:
        """Close every connection, those under way included."""
        for connection, _since in self._idle:
            connection.abort()
        self._idle.clear()
        for connection in list(self._leased):
            connection.abort()
            self.give_back(connection)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection, _since = self._idle.pop()
            if not connection.is_stale():
                return connection
            connection.abort()
        return None

    def _release_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()
