"""One request and what has become of it so far, and where the requests for one service go. Values only."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from gateway import headers
from gateway.clocks import ExchangeClock, Limits
from gateway.config import Service
from gateway.errors import GatewayError
from gateway.forward.carriers import Carrier, carrier_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what has become of it so far. Written by whoever carries it, read when it ends."""

    scope: Scope
    receive: Receive
    send: Send
    inbound: headers.Inbound
    request_id: bytes
    clock: ExchangeClock
    target: bytes = b"/"
    """The request target as it came."""
    path: str = "/"
    """The same up to its query, which may hold what should not be kept: for the log and for answers."""
    now: Callable[[], float] = trio.current_time
    """Reads trio's clock."""
    status: int | None = None
    """The status of the answer that has begun; None before."""
    complete: bool = False
    """Whether the answer has been handed to the server whole."""
    bytes_in: int = 0
    """Bytes of the request's body that were read."""
    bytes_out: int = 0
    """Bytes of the answer's body that were handed to the server."""
    service: str | None = None
    target_url: str | None = None
    cut: Callable[[GatewayError], None] | None = field(default=None, repr=False)
    """While it is being forwarded: end it, for the given reason."""


@dataclass(slots=True, kw_only=True)
class Upstream:
    """Where the requests for one service go."""

    service: Service
    transport: httpx.AsyncBaseTransport
    limits: Limits
    max_body_size: int
    trusted: headers.TrustedProxies
    date: Callable[[float], bytes]
    """The value of Date at a time of trio's clock."""
    carry: Carrier = field(init=False)
    """Takes a request there."""

    def __post_init__(self) -> None:
        self.carry = carrier_of(self.transport, self.service.origin)
