"""The storm over one transport: many tasks, few connections, cancellation at random, against a backend with moods.

Any httpx transport can be put into it. A gateway cancels all day, so at the end of a storm nothing may be left: no slot
taken, no task, no socket, and the next request is answered.

What lives here: the weather and the counting. What never will: what must hold afterwards. The tests say that, and
``python -m benchmarks storm`` shows it side by side for two transports.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import httpx
import trio

from gateway.testing.network import MemoryNetwork
from gateway.testing.orphans import slots_taken
from gateway.transport import BackendTransport

TASKS = 60
CONNECTIONS = 10
"""What the transport is to be bounded to."""
REQUESTS = 10_000
PAUSE = 0.01
"""Seconds of real time, where there is real time: how long the backend is slow, and the grid of cancellations."""
SEED = 1093
BODY = b"helloworld"


async def storm(
    transport: httpx.AsyncBaseTransport, url: str, *, pause: float = PAUSE, requests: int = REQUESTS, seed: int = SEED
) -> Counter[str]:
    """Send ``requests`` requests from TASKS tasks and cancel about half of them somewhere. Counts how they ended.

    The ends are ``answered``, ``cancelled``, ``broken`` (the backend's mood) and ``pool timeout`` (no connection to be
    had within 5 s). Raises AssertionError where an answer is not the backend's. On cancellation, nothing of it is left.
    """
    dice = random.Random(seed)  # noqa: S311 -- a seed is the point
    ends: Counter[str] = Counter()
    left = requests

    def some_time_soon() -> float:
        # On a coarse grid, so that several are cancelled at once, as the streams of one HTTP/2 client are: a waiter and
        # the one that makes room for it, in the same turn of the scheduler.
        if dice.random() < 0.3:
            return inf
        return (trio.current_time() // pause + dice.randint(0, 4)) * pause

    async def one(client: httpx.AsyncClient) -> str:
        with trio.CancelScope(deadline=some_time_soon()):
            try:
                response = await client.get(url)
            except httpx.PoolTimeout:
                return "pool timeout"
            except httpx.TransportError:
                return "broken"
            if response.content != BODY:
                raise AssertionError(f"an answer that nobody gave: {response.content!r}")
            return "answered"
        return "cancelled"

    async def worker(client: httpx.AsyncClient) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            ends[await one(client)] += 1

    client = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, pool=5))
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(worker, client)
    return ends


def lost_slots(transport: BackendTransport | httpx.AsyncHTTPTransport) -> int:
    """How many connections are taken. With no request under way, each of them is a slot lost for good."""
    if isinstance(transport, BackendTransport):
        return slots_taken(transport)
    return sum(not connection.is_idle() for connection in transport._pool.connections)  # noqa: SLF001 -- it has no public way


@asynccontextmanager
async def memory_backend(pause: float, *, seed: int = 7) -> AsyncIterator[MemoryNetwork]:
    """Serve the backend with moods at backend:80 of a network in memory."""
    network = MemoryNetwork()
    dice = random.Random(seed)  # noqa: S311 -- a seed is the point
    async with trio.open_nursery() as nursery:
        listener = network.listen("backend", 80)
        nursery.start_soon(trio.serve_listeners, lambda stream: _serve(stream, dice, pause), [listener])
        yield network
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def socket_backend(pause: float, *, seed: int = 7) -> AsyncIterator[str]:
    """Serve the backend with moods on a free port; gives its URL."""
    dice = random.Random(seed)  # noqa: S311 -- a seed is the point
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, lambda stream: _serve(stream, dice, pause), listeners)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


async def _serve(stream: trio.abc.HalfCloseableStream, dice: random.Random, pause: float) -> None:
    """A backend with moods: prompt, slow in its head or in its body, closing at once or in the middle."""
    async with stream:
        received = b""
        try:
            while True:
                while b"\r\n\r\n" not in received:
                    data = await stream.receive_some()
                    if not data:
                        return
                    received += data
                received = received.partition(b"\r\n\r\n")[2]
                mood = dice.random()
                if mood < 0.3:
                    await trio.sleep(dice.random() * pause)
                if mood > 0.97:
                    return
                closing = dice.random() < 0.5
                connection = b"Connection: close\r\n" if closing else b""
                await stream.send_all(b"HTTP/1.1 200 OK\r\n%bContent-Length: 10\r\n\r\nhello" % connection)
                if mood < 0.2:
                    await trio.sleep(dice.random() * pause)
                if mood > 0.95:
                    return
                await stream.send_all(b"world")
                if closing:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
