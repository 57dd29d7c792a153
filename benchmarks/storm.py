"""The storm of ``gateway.testing.storm`` over real sockets, for our transport and for httpx's, side by side."""

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

import httpx
import trio

from benchmarks.report import table
from gateway.testing.storm import CONNECTIONS, PAUSE, lost_slots, socket_backend, storm
from gateway.transport import BackendTransport

Transport = BackendTransport | httpx.AsyncHTTPTransport

ENDS = ("answered", "cancelled", "broken", "pool timeout")


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a storm left of a transport."""

    transport: str
    ends: Counter[str]
    seconds: float
    lost: int


def transports() -> list[Transport]:
    """Both, bounded to the same number of connections."""
    return [
        BackendTransport(max_connections=CONNECTIONS),
        httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=CONNECTIONS)),
    ]


async def weather(transport: Transport, *, requests: int, seed: int) -> Aftermath:
    """Put one transport into a storm, and close it. On cancellation, it is closed too."""
    async with socket_backend(PAUSE) as url:
        start = time.perf_counter()
        try:
            ends = await storm(transport, url, requests=requests, seed=seed)
            return Aftermath(type(transport).__name__, ends, time.perf_counter() - start, lost_slots(transport))
        finally:
            with trio.CancelScope(shield=True):  # httpcore's pool cannot be closed in a scope that is cancelled
                await transport.aclose()


def as_table(aftermaths: list[Aftermath]) -> str:
    """As Markdown."""
    rows = [["", f"slots lost of {CONNECTIONS}", *ENDS, "seconds"]]
    for each in aftermaths:
        ends = [f"{each.ends[end]:,}" for end in ENDS]
        rows.append([each.transport, str(each.lost), *ends, f"{each.seconds:.1f}"])
    return table(rows)


def run(*, requests: int, seed: int) -> str:
    """Both storms, one after the other, as a table."""
    return as_table([trio.run(partial(weather, each, requests=requests, seed=seed)) for each in transports()])
