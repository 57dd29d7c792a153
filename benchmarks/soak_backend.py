"""The catalogue of faults as the backends of the soak, all in one process, each unit of time as short as told.

    python -m benchmarks.soak_backend UNIT all:PORT refuse:PORT ...

On the port of ``all`` the last segment of the path names a fault, or a client's fault whose backend has a part in it;
what names neither is answered as it should be. The faults in ALONE begin before any request, so each has a port of its
own. ``python -m fixtures.faults --serve`` is the same for people; but it keeps what came, and this one runs for long.
"""

import signal
import sys
from contextlib import suppress

import trio

from fixtures.faults.catalogue import BACKEND_FAULTS, CATALOGUE
from fixtures.faults.fault import BackendFault, BackendScript, Place
from fixtures.faults.serving import Peekable
from fixtures.faults.stands import Player, SocketStand
from fixtures.faults.vocabulary import serves_on
from gateway.testing.backend import Connection
from gateway.testing.peer import Request

ALL = "all"
ALONE = tuple(fault.name for fault in BACKEND_FAULTS if fault.speaks_first or fault.place is not Place.LISTENS)
FORGET_SECONDS = 0.2


def scripts() -> dict[bytes, BackendScript]:
    """What a path can name."""
    found = {}
    for fault in CATALOGUE.values():
        script = fault.script if isinstance(fault, BackendFault) else getattr(fault, "backend", None)
        if script is not None and fault.name not in ALONE:
            found[fault.name.encode()] = script
    return found


BY_PATH = scripts()


async def well(conn: Connection, _unit: float) -> None:
    """Answer as it should be."""
    await serves_on(conn)


class AnotherFaultError(Exception):
    """A request has come that names another fault than the one that is played."""


class Turning(Peekable):
    """A connection whose script is over as soon as a request names another fault.

    Many scripts end in good answers, for as long as the proxy keeps the connection. A proxy under load keeps it for
    ever, and the next faults would meet good answers alone.
    """

    playing: bytes | None = None

    async def named(self) -> bytes:
        """What the next request names. :raises PeerGoneError: none comes."""
        return (await self.peek_target()).partition(b"?")[0].rpartition(b"/")[2]

    async def read_head(self) -> Request:
        """See Connection. :raises AnotherFaultError: it is there to be read, and names another fault."""
        if self.playing is not None and await self.named() != self.playing:
            raise AnotherFaultError
        return await super().read_head()


async def by_path(conn: Connection, unit: float) -> None:
    """Play what the next request names; answer what names nothing."""
    assert isinstance(conn, Turning)  # noqa: S101 -- for the type checker: see stand_of
    while True:
        conn.playing = await conn.named()
        script = BY_PATH.get(conn.playing, well)
        with suppress(AnotherFaultError):
            await script(conn, unit)
            return
        conn.requests.clear()


def stand_of(name: str, port: int, unit: float) -> SocketStand:
    """Take the port for a fault, or for ALL."""
    if name == ALL:
        return SocketStand(Place.LISTENS, Player(by_path, unit, connection=Turning), ("127.0.0.1", port))
    fault = CATALOGUE[name]
    script = fault.script if isinstance(fault, BackendFault) else None
    return SocketStand(fault.place, Player(script, unit), ("127.0.0.1", port))


async def serve(stands: list[SocketStand]) -> None:
    """Serve until cancelled."""
    async with trio.open_nursery() as nursery:
        for stand in stands:
            await stand.open(nursery)
        while True:
            for stand in stands:
                stand.player.connections.clear()  # with all that they have read: gigabytes, in the end
            await trio.sleep(FORGET_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    placed = [word.rpartition(":") for word in sys.argv[2:]]
    trio.run(serve, [stand_of(each, int(number), float(sys.argv[1])) for each, _, number in placed])
