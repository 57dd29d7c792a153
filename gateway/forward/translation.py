"""What a transport raised, in our own words: the table at the border to foreign exceptions."""

from typing import Any

import httpx

from gateway.errors import (
    BackendBrokeOff,
    BackendTimeout,
    BadRequest,
    BadResponse,
    ConnectFailed,
    ConnectionsExhausted,
    ConnectTimeout,
    GatewayError,
)
from gateway.transport.reasons import why_no_connection

_TRANSLATION: tuple[tuple[type[httpx.TransportError], type[GatewayError]], ...] = (
    (httpx.ConnectTimeout, ConnectTimeout),
    (httpx.PoolTimeout, ConnectionsExhausted),
    (httpx.TimeoutException, BackendTimeout),
    (httpx.ConnectError, ConnectFailed),
    (httpx.LocalProtocolError, BadRequest),
    (httpx.RemoteProtocolError, BadResponse),
    (httpx.TransportError, BackendBrokeOff),
)
"""What a transport raises, and what that is to us; the first that fits. Ours has no timeouts, others do."""


def translate(error: httpx.TransportError) -> GatewayError:
    """Make a failure of ours of what a transport raised. What it said of addresses goes into the log alone."""
    ours = next(ours for theirs, ours in _TRANSLATION if isinstance(error, theirs))
    failure: GatewayError
    if ours is ConnectFailed:
        failure = ConnectFailed(f"no connection to the backend: {why_no_connection(error)}", detail=str(error))
    else:
        failure = ours(str(error) or "the transport failed")
    failure.__cause__ = error
    return failure


def first(group: BaseExceptionGroup[Any]) -> Any:
    """The first exception in the group, however deep: what came after it came of it."""
    inner: Any = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
