r"""What a backend does with a request. The request names it: ``/api/e17?mood=cut``.

So what comes of a request does not depend on which connection it goes over, and a storm with fewer events is the same
storm to those that are left.

What lives here: the scripts, each with the ways its request may end. What never will: what a client or the weather adds
to those; ``books`` knows that.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol, TypeAlias

import trio

from gateway.errors import Cause
from gateway.testing.backend import Connection, Script, response
from gateway.testing.peer import Request

Conduct: TypeAlias = Callable[[Connection, float], Awaitable[bool | None]]
"""Reads a request and does something about it; the float is seconds per unit. True: the connection is kept."""


@dataclass(frozen=True, slots=True)
class Mood:
    """What a backend does, and how an exchange with it may end when nobody else does anything odd."""

    conduct: Conduct
    causes: frozenset[Cause]
    leaves: bool = False
    """Whether it gives up a connection that looks as if it could be used again: the next request may meet that."""


def body_of(target: bytes, size: int = 0) -> bytes:
    """Make a body that says whose answer it is, so that nobody gets somebody else's."""
    return target.partition(b"?")[0].rpartition(b"/")[2] + b";" + b"x" * size


def mood_of(request: Request) -> str:
    """Find what the request names; "well" where it names nothing."""
    return request.target.partition(b"mood=")[2].decode("ascii").replace("+", " ") or "well"


def script_of(moods: Mapping[str, Mood], unit: float, health: Callable[[], str]) -> Script:
    """Make a script that does with each request what it names, and with health checks what ``health`` says."""

    async def script(conn: Connection) -> None:
        going = True
        with suppress(trio.ClosedResourceError):  # the weather may reset it in mid-sentence
            while going:
                request = await conn.peek_head()
                if request.target == b"/health":
                    going = await check(conn, health())
                else:
                    going = bool(await moods[mood_of(request)].conduct(conn, unit))

    return script


async def check(conn: Connection, state: str) -> bool:
    """Answer a health check."""
    await conn.read_request()
    if state == "hanging":
        await conn.wait_closed()
        return False
    await conn.send(response(503 if state == "failing" else 200))
    return True


def head(length: int, more: bytes = b"") -> bytes:
    """Bytes of the head of an answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n" % (length, more)


def whole(size: int = 0, *, more: bytes = b"", before: float = 0, within: float = 0, keep: bool = True) -> Conduct:
    """Answer as one should, with pauses of so many units before the head and within the body."""

    async def conduct(conn: Connection, unit: float) -> bool:
        request = await conn.read_request()
        body = body_of(request.target, size)
        await trio.sleep(before * unit)
        if within:
            await conn.send(head(len(body), more) + body[:2])
            await trio.sleep(within * unit)
            await conn.send(body[2:])
        else:
            await conn.send(head(len(body), more) + body)
        return keep

    return conduct


def says(data: bytes, *, then: str, read: bool = True, after: float = 1) -> Conduct:
    """Say these bytes, and ``then``, ``after`` so many units: "closes", "resets" or "waits"."""

    async def conduct(conn: Connection, unit: float) -> None:
        if read:
            await conn.read_request()
        else:
            await conn.read_head()
        if data:
            await conn.send(data)
        if then == "waits":
            await conn.wait_closed()
            return
        await trio.sleep(after * unit)
        if then == "resets":
            conn.reset()

    return conduct


async def chunks(conn: Connection, unit: float) -> bool:
    """Answer in chunks, with trailers."""
    request = await conn.read_request()
    body = body_of(request.target)
    await conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for at in range(0, len(body), 2):
        piece = body[at : at + 2]
        await conn.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await trio.sleep(unit / 2)
    await conn.send(b"0\r\nx-sum: 1\r\n\r\n")
    return True


async def to_the_end(conn: Connection, unit: float) -> None:
    """Answer with a body that ends with the connection."""
    request = await conn.read_request()
    await conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await trio.sleep(unit)
    await conn.send(body_of(request.target))


async def drips(conn: Connection, unit: float) -> None:
    """Say a head byte by byte, and never its end."""
    await conn.read_request()
    await conn.send(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await trio.sleep(unit * 3)
        await conn.send(b"a")


async def early(conn: Connection, unit: float) -> None:  # noqa: ARG001 - the form of a conduct
    """Answer before the body is read, and close."""
    request = await conn.read_head()
    body = body_of(request.target)
    await conn.send(head(len(body), b"connection: close\r\n") + body)
    await conn.read_to_end()


async def leaves_after(conn: Connection, unit: float) -> None:
    """Answer as if the connection were kept, and close it soon."""
    await whole()(conn, unit)
    await trio.sleep(unit)


async def leaves_at_once(conn: Connection, unit: float) -> None:
    """Answer as if the connection were kept, and close it in the same breath."""
    await whole()(conn, unit)


async def says_too_much(conn: Connection, unit: float) -> None:  # noqa: ARG001 - the form of a conduct
    """Say bytes behind the answer."""
    request = await conn.read_request()
    body = body_of(request.target)
    await conn.send(head(len(body)) + body + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    await conn.wait_closed()


def _mood(conduct: Any, *causes: Cause, leaves: bool = False) -> Mood:
    return Mood(conduct, frozenset(causes), leaves)


_HEAD: Final = head(1000)

MOODS: Final[Mapping[str, Mood]] = {
    "well": _mood(whole(), Cause.OK),
    "slow head": _mood(whole(before=4), Cause.OK),
    "slow body": _mood(whole(100, within=4), Cause.OK),
    "big": _mood(whole(300_000), Cause.OK),
    "last": _mood(whole(more=b"connection: close\r\n", keep=False), Cause.OK),
    "chunks": _mood(chunks, Cause.OK),
    "to the end": _mood(to_the_end, Cause.OK),
    "hints": _mood(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" + head(0), then="closes"), Cause.OK, leaves=True),
    "unwell": _mood(says(response(503), then="closes"), Cause.OK, leaves=True),
    "early": _mood(early, Cause.OK),
    "leaves after": _mood(leaves_after, Cause.OK, leaves=True),
    "leaves at once": _mood(leaves_at_once, Cause.OK, leaves=True),
    "too much": _mood(says_too_much, Cause.OK),
    "hangs": _mood(says(b"", then="waits"), Cause.BACKEND_TIMEOUT),
    "drips": _mood(drips, Cause.BACKEND_TIMEOUT),
    "unread": _mood(says(b"", then="waits", read=False), Cause.BACKEND_TIMEOUT),
    "closes": _mood(says(b"", then="closes"), Cause.BACKEND_BROKE_OFF),
    "closes at once": _mood(says(b"", then="closes", after=0), Cause.BACKEND_BROKE_OFF),
    "resets": _mood(says(b"", then="resets"), Cause.BACKEND_BROKE_OFF),
    "half a line": _mood(says(b"HTTP/1.", then="closes"), Cause.BACKEND_BROKE_OFF),
    "nonsense": _mood(says(b"SSH-2.0-OpenSSH\r\n\r\n", then="waits"), Cause.BAD_RESPONSE),
    "two lengths": _mood(says(head(5, b"content-length: 6\r\n"), then="waits"), Cause.BAD_RESPONSE),
    "stalls": _mood(says(_HEAD + b"half", then="waits"), Cause.BACKEND_TIMEOUT),
    "cut": _mood(says(_HEAD + b"half", then="closes"), Cause.BACKEND_BROKE_OFF),
    "torn": _mood(says(_HEAD + b"half", then="resets"), Cause.BACKEND_BROKE_OFF),
    "bad chunk": _mood(
        says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", then="waits"), Cause.BAD_RESPONSE
    ),
}
"""By name."""

FOREIGN: Final = "fault "
"""How the names of moods begin that come from a catalogue: their bodies say nothing of the request."""


class Ask(Protocol):
    """The request that brings a fault out."""

    @property
    def method(self) -> bytes:
        """Its method."""

    @property
    def body(self) -> int:
        """Bytes of its body."""

    @property
    def reads(self) -> float:
        """Bytes of the answer after which its client leaves."""


class Fault(Protocol):
    """An entry in a catalogue of faults; ``fixtures/faults`` of this project has one."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def script(self) -> Callable[[Connection, float], Awaitable[None]] | None:
        """What a backend does with a connection; the second argument is seconds per unit."""

    @property
    def cause(self) -> str | None:
        """As the log has it."""

    @property
    def ask(self) -> Ask:
        """The request that brings it out."""

    @property
    def warm(self) -> bool:
        """Whether it takes a request before the one that counts."""

    @property
    def speaks_first(self) -> bool:
        """Whether it acts before a request has come."""


def moods_of(faults: Iterable[Fault]) -> dict[str, Mood]:
    """Make moods of those faults in a catalogue that any request can bring out.

    Not of those that need a certain request: a storm's are of all kinds. And not of those that come to nothing: their
    connection may be used again, and their script would take the next request for its own.
    """
    return {
        FOREIGN + fault.name: Mood(fault.script, frozenset({Cause(fault.cause)}))
        for fault in faults
        if fault.script is not None
        and fault.cause not in (None, Cause.OK)
        and not (fault.warm or fault.speaks_first or fault.ask.body or fault.ask.reads != inf)
        and fault.ask.method == b"GET"
    }
