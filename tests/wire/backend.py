"""The raw backend of all cases: it gives each request that comes to the script of the case that is on.

What lives here: how each step of a backend is done. What never will: what is right.
"""

import re
from collections.abc import Sequence
from typing import Any

import trio
import trio.lowlevel

from gateway.testing import sockets

from . import steps
from .messages import PREFIX, Digest, Seen, chunk, is_chunked, last_chunk, pieces_of
from .play import Play
from .reading import Ended, Malformed, Reader

CONTROL = PREFIX + b"/control?"
"""Requests for this are answered with what stands behind it, whatever is on."""
HEALTH = re.compile(rb"/health\b|/livez\b|/readyz\b")

Exchange = Sequence[steps.BackendStep]


class Backend:
    """Serves a listener. :meth:`run` it in a nursery; between ``begin`` and ``end`` a case is on."""

    def __init__(self, listener: trio.abc.Listener[Any]) -> None:
        self.listener = listener
        self.connections = 0
        self._play: Play | None = None
        self._exchanges: Sequence[Exchange] = ()
        self._running: dict[int, trio.CancelScope] = {}
        self._quiet = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with self.listener, trio.open_nursery() as nursery:
            task_status.started()
            while True:
                stream = await self.listener.accept()
                self.connections += 1
                nursery.start_soon(self._serve, stream, self.connections)

    def begin(self, play: Play, exchanges: Sequence[Exchange]) -> None:
        """From now on the n-th request is for the n-th of ``exchanges``; more than these for the last one."""
        self._play, self._exchanges = play, exchanges

    async def finished(self) -> None:
        """Wait until no script is being played."""
        while self._running:
            self._quiet = trio.Event()
            await self._quiet.wait()

    def end(self) -> None:
        """The case is over: what of its scripts still runs is cancelled, and its connection closed."""
        self._play = None
        for scope in self._running.values():
            scope.cancel()

    async def _serve(self, stream: trio.abc.HalfCloseableStream, number: int) -> None:
        reader = Reader(stream)
        try:
            while (seen := await reader.request_head()) is not None:
                seen.connection = number
                if not await self._answer(stream, reader, seen):
                    break
        except (Malformed, Ended, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self._play is not None and isinstance(error, Malformed):
                self._play.faults.append(f"the backend got what is no request: {error}")
        finally:
            sockets.close(stream)

    async def _answer(self, stream: trio.abc.HalfCloseableStream, reader: Reader, seen: Seen) -> bool:
        """Play the script of this request. Gives whether the connection goes on."""
        play = self._play
        if seen.target.startswith(CONTROL) or HEALTH.match(seen.target):
            token = seen.target.removeprefix(CONTROL)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(token), token))
            return True
        if play is None:
            return False
        place = len(play.seen)
        play.seen.append(seen)
        script = self._exchanges[min(place, len(self._exchanges) - 1)] if self._exchanges else ()
        scope = self._running[place] = trio.CancelScope()
        try:
            with scope:
                for step in script:
                    play.backend_at[place] = step
                    if not await self._do(step, stream, reader, seen, play):
                        play.backend_at.pop(place)
                        return False
                play.backend_at.pop(place, None)
                return bool(script)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            play.backend_at.pop(place, None)  # the proxy is gone; whether it may, the checks know
        except (Malformed, Ended) as error:
            seen.fault = f"{type(error).__name__}: {error}"
            play.backend_at.pop(place, None)
        finally:
            del self._running[place]
            self._quiet.set()
        return False

    async def _do(  # noqa: C901, PLR0912 - one branch per step
        self, step: object, stream: trio.abc.HalfCloseableStream, reader: Reader, seen: Seen, play: Play
    ) -> bool:
        match step:
            case steps.ReadBody(size):
                await reader.body(seen, until=size)
            case steps.Give(answer):
                play.given.append(answer)
                if seen.method == b"HEAD":
                    await stream.send_all(answer.head())
                elif is_chunked(answer.body):
                    await stream.send_all(answer.head())
                    for piece in pieces_of(answer.body):
                        await stream.send_all(chunk(piece))
                    await stream.send_all(last_chunk(answer.trailers))
                else:
                    first = next(pieces := pieces_of(answer.body), b"")
                    await stream.send_all(answer.head() + first)
                    for piece in pieces:
                        await stream.send_all(piece)
            case steps.GiveHead(answer):
                play.given.append(answer)
                await stream.send_all(answer.head())
            case steps.Echo():
                await _echo(stream, reader, seen)
            case steps.Bytes(data):
                await stream.send_all(data)
            case steps.Drip(data):
                for at in range(len(data)):
                    await stream.send_all(data[at : at + 1])
                    await trio.lowlevel.checkpoint()
            case steps.Leave():
                sockets.close(stream)
                return False
            case steps.Reset():
                sockets.reset(stream)
                return False
            case steps.AwaitGone():
                while await reader.more():
                    reader.buffer.clear()
                play.backend_cut.append(reader.ended)
                return False
            case _:
                await play.do(step)
        return True


class _Echoing(Digest):
    """Keeps besides what came since it was asked last."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh = b""

    def add(self, data: bytes) -> None:
        super().add(data)
        self.fresh += data


async def _echo(stream: trio.abc.HalfCloseableStream, reader: Reader, seen: Seen) -> None:
    seen.body = body = _Echoing()
    while not seen.complete:
        await reader.body(seen, until=body.size + 1)
        if body.fresh:
            await stream.send_all(chunk(body.fresh))
            body.fresh = b""
    await stream.send_all(last_chunk())
