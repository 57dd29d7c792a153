"""Connections to backends: one HTTP/1.1 connection, the pool of one origin, and an httpx transport over them.

The only door to trio's streams towards backends, and to httpx's transport interface. No clock is set in here: whoever
waits owns the clock, so a caller puts a cancel scope round what it calls, and cancellation closes the connection.
"""

from gateway.transport.backend import Answer, BackendTransport, open_tcp
from gateway.transport.connection import Hooks, Request
from gateway.transport.pool import MAX_IDLE

__all__ = ["MAX_IDLE", "Answer", "BackendTransport", "Hooks", "Request", "open_tcp"]
