"""How several processes that accept from one queue come to equal shares of the connections.

Whoever of them wakes first takes a connection, and who takes one is awake for the next: a burst of connections, such
as a proxy's at its start, would all go to one process and stay there. So each of them writes down, in memory that all
of them see, how many it has; and one that has more than another lets that one go first.

It is a courtesy and no lock: a figure that is wrong, or one that hesitates for nobody, costs milliseconds. What never
lives here: a connection, anything that blocks.
"""

import mmap
import os
import socket
import sys

import trio

from gateway.server.accepting import PromptListener

HESITATION = 0.005
"""Seconds that one who has more leaves to the others."""
SEATS = 4096
"""Processes at most, those that are leaving included."""
SIZE = 4 * SEATS


def open_table() -> int | None:
    """Make the memory; gives its descriptor, to be inherited. None where the system has no such thing."""
    if sys.platform != "linux":
        return None
    number = os.memfd_create("shares")
    os.ftruncate(number, SIZE)
    return number


class Shares:
    """The table, as seen from one seat. In it stands one more than that one's connections; 0 where nobody sits.

    Seat 0 is nobody's: there stands the highest that was ever given.
    """

    def __init__(self, number: int, seat: int = 0) -> None:
        self._seats = memoryview(mmap.mmap(number, SIZE)).cast("I")
        self.seat = seat

    def give(self, seat: int) -> None:
        """Let somebody sit there: the supervisor's part."""
        self._seats[0] = max(self._seats[0], seat)
        self._seats[seat] = 0

    def take(self, seat: int) -> None:
        """Nobody sits there any more: the supervisor's part, for one who has died."""
        self._seats[seat] = 0

    def have(self, connections: int) -> None:
        """So many are open here."""
        self._seats[self.seat] = connections + 1

    def leave(self) -> None:
        """None will be accepted here any more."""
        self._seats[self.seat] = 0

    @property
    def ahead(self) -> bool:
        """Whether somebody has fewer."""
        mine = self._seats[self.seat]
        return any(0 < other < mine for other in self._seats[1 : self._seats[0] + 1].tolist())


class FairListener(PromptListener):
    """Accepts from a socket that other processes accept from too, and lets those go first that have fewer."""

    at_once = 1

    def __init__(self, sock: socket.socket, shares: Shares) -> None:
        super().__init__(sock)
        self._shares = shares
        shares.have(0)

    async def wait(self) -> None:
        """See PromptListener."""
        await super().wait()
        if self._shares.ahead:
            await trio.sleep(HESITATION)

    async def aclose(self) -> None:
        """Close the socket."""
        self._shares.leave()
        await super().aclose()
