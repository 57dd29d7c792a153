"""One case on stage: what both scripts have in common while it is played, and the book of what arrived.

What lives here: signals between the two, and the transcript that checks read. What never will: what is right.
"""

from collections import defaultdict
from typing import Any

import trio

from . import steps
from .messages import Answer, Got, Request, Seen


class Play:
    """The transcript of a case as it comes to be."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        """``1.1`` or ``2``: what the client speaks."""
        self.sent: list[Request] = []
        """Requests that the client said as such, not as bytes."""
        self.given: list[Answer] = []
        """Answers that the backend gave as such."""
        self.seen: list[Seen] = []
        """Requests that reached the backend."""
        self.answers: list[Got] = []
        """What the client got."""
        self.faults: list[str] = []
        """What no case wants: bytes at the backend that are no request, frames that HTTP/2 forbids."""
        self.unsent = False
        """Whether the client was cut off while it still sent."""
        self.beyond = b""
        """What the client got while it waited for the end."""
        self.client_cut = ""
        """How the client's connection ended, where it waited for that: ``closed`` or ``reset``."""
        self.backend_cut: list[str] = []
        """The same for each connection on which the backend waited for that."""
        self.goaway: int | None = None
        """The code of the GOAWAY that came over HTTP/2."""
        self.client_at: Any = None
        """The step at which the client is."""
        self.backend_at: dict[int, Any] = {}
        """The step at which the backend is, by number of the request."""
        self.signalled: list[str] = []
        """Signals, in order."""
        self._signals: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self._pending: Got | None = None

    def answer_begins(self, *, pending: bool = False) -> Got:
        """The record of the next answer. A ``pending`` one has had no final head yet, and is the next one too."""
        got = self._pending
        if got is None:
            got = Got([])
            self.answers.append(got)
        self._pending = got if pending else None
        return got

    async def do(self, step: object) -> None:
        """Do a step that is the same on both sides."""
        match step:
            case steps.Signal(name):
                self.signalled.append(name)
                self._signals[name].set()
            case steps.Wait(name):
                await self._signals[name].wait()
            case steps.Pause(seconds):
                await trio.sleep(seconds)
            case _:
                raise AssertionError(f"{step!r} is no step here")
