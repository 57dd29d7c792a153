"""Storms: thousands of events drawn by a seed, and the books that must balance after them.

``transport`` is the storm over one httpx transport. The others are the storm over the whole gateway:

| module | duty |
|---|---|
| ``plan`` | the events, drawn by a seed; as values, so that a failing storm can be cut down and kept in a file |
| ``moods`` | what a backend does with a request: the request names it |
| ``callers`` | what a client does, over HTTP/1.1 and HTTP/2 |
| ``books`` | what became of each request, seen from both ends, and whether it adds up |
| ``play`` | a plan played to its end, in memory or over real sockets |
| ``shrink`` | a failing plan cut down to the events that matter |

``python -m gateway.testing.storm`` plays one. What never lives here: anything that a gateway needs to run.
"""

from gateway.testing.storm.transport import (
    BODY,
    CONNECTIONS,
    PAUSE,
    REQUESTS,
    SEED,
    TASKS,
    lost_slots,
    memory_backend,
    socket_backend,
    storm,
)

__all__ = [
    "BODY",
    "CONNECTIONS",
    "PAUSE",
    "REQUESTS",
    "SEED",
    "TASKS",
    "lost_slots",
    "memory_backend",
    "socket_backend",
    "storm",
]
