"""The raw HTTP/1.1 client of a case.

What lives here: how each step of a client is done over HTTP/1.1. What never will: what is right.
"""

from collections.abc import Awaitable, Callable

import trio
import trio.lowlevel

from gateway.testing import sockets

from . import steps
from .messages import Fields, Got, Request, chunk, is_chunked, last_chunk, pieces_of
from .play import Play
from .reading import Ended, Malformed, Reader


class Client1:
    """One connection that speaks HTTP/1.1, and what came of it in ``play``."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, play: Play) -> None:
        self.stream = stream
        self.play = play
        self.reader = Reader(stream)
        self._unanswered: list[bytes] = []
        self._said: Request | None = None
        self._heard: Got | None = None

    async def run(self, script: tuple[steps.ClientStep, ...]) -> None:
        """Do it all. The connection is closed by the caller."""
        for step in script:
            self.play.client_at = step
            await self.do(step)
        self.play.client_at = None

    async def do(self, step: steps.ClientStep) -> None:  # noqa: C901, PLR0912 - one branch per step
        """Do one step."""
        match step:
            case steps.Say(request):
                await self.say_head(request)
                await self.say_body(request)
                await self.say_end(request.trailers)
            case steps.SayHead(request):
                await self.say_head(request)
            case steps.SayBody(body):
                for piece in pieces_of(body):
                    await self.send(self._framed(piece))
            case steps.SayEnd(trailers):
                await self.say_end(trailers)
            case steps.Hear(method):
                await self.hear_head(method)
                await self.hear_body(None)
            case steps.HearInformational():
                await self._hearing(self._informational)
            case steps.HearHead(method):
                await self.hear_head(method)
            case steps.HearBody(size):
                await self.hear_body(size)
            case steps.HearEnd():
                await self.hear_body(None)
            case steps.Together(first, second):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.run, first)
                    nursery.start_soon(self.run, second)
            case steps.Bytes(data):
                await self.send(data)
            case steps.Drip(data):
                for at in range(len(data)):
                    await self.send(data[at : at + 1])
                    await trio.lowlevel.checkpoint()
            case steps.Leave():
                sockets.close(self.stream)
            case steps.Reset():
                sockets.reset(self.stream)
            case steps.AwaitGone():
                while await self.reader.more():
                    self.play.beyond += bytes(self.reader.buffer)
                    self.reader.buffer.clear()
                self.play.client_cut = self.reader.ended
            case _:
                await self.play.do(step)

    async def send(self, data: bytes) -> None:
        """Send, or give up quietly: a server may answer early and close."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.play.unsent = True

    async def say_head(self, request: Request) -> None:
        self.play.sent.append(request)
        self._said = request
        self._unanswered.append(request.method)
        await self.send(request.head())

    async def say_body(self, request: Request) -> None:
        for piece in pieces_of(request.body):
            if self.play.unsent:
                return
            await self.send(self._framed(piece))

    async def say_end(self, trailers: Fields) -> None:
        if self._said is not None and is_chunked(self._said.body):
            await self.send(last_chunk(trailers))

    def _framed(self, piece: bytes) -> bytes:
        return chunk(piece) if self._said is not None and is_chunked(self._said.body) else piece

    async def hear_head(self, method: bytes | None) -> None:
        """Read the head of a final answer and the 1xx before it."""
        told = self._unanswered.pop(0) if self._unanswered else b"GET"
        self._method = method or told
        await self._hearing(self._final)

    async def hear_body(self, until: int | None) -> None:
        heard = self._heard
        if heard is None or not heard.status or heard.fault:
            return
        none = self._method == b"HEAD" or heard.status in (204, 304)

        async def read() -> None:
            await self.reader.body(heard, none=none, to_end=True, until=until)

        await self._hearing(read)

    async def _final(self) -> None:
        self._heard = self.play.answer_begins()
        while 100 <= (head := await self.reader.response_head()).status < 200:
            head.complete = True
            self._heard.informational.append(head)
        self._heard.fields, self._heard.status = head.fields, head.status
        self._heard.reason, self._heard.version = head.reason, head.version

    async def _informational(self) -> None:
        got = self.play.answer_begins(pending=True)
        head = await self.reader.response_head()
        head.complete = True
        if 100 <= head.status < 200:
            got.informational.append(head)
        else:
            got.fault = f"{head.status} where a 1xx was due"

    async def _hearing(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except (Ended, Malformed) as error:
            (self._heard or self.play.answer_begins()).fault = f"{type(error).__name__}: {error}"
