"""Every way a request can fail, and nothing else.

A failure says what it was before anybody asks: the status it is answered with, its code, whose fault it is, the
cause that the log and the counters carry, and the error type of RFC 9209 for ``Proxy-Status``. Where it happened (the
phase) is known only to the one who raises it.

    GatewayError
    ├── ClientFault                   the client's doing
    │   ├── BadRequest           400  malformed or ambiguous message, unsafe path
    │   │   ├── MethodNotAllowed 405  not on this endpoint of the gateway's own
    │   │   ├── HeadTooLarge     431  the head of the request is over the server's limits
    │   │   ├── VersionNotSupported 505  not HTTP/1 nor HTTP/2
    │   │   └── NotImplementedMethod 501  CONNECT, or a transfer coding other than chunked
    │   ├── NoRoute              404  no service answers to this path
    │   ├── RequestTimeout       408  its body did not come in time
    │   ├── PayloadTooLarge      413  its body is over the limit
    │   └── ClientGone           499  it left; nobody reads the answer, so this is for log and counters alone
    ├── BackendFault                  the service's doing
    │   ├── ConnectFailed        503  refused, unreachable, no such name, TLS refused
    │   ├── ConnectTimeout       504  no connection within the connect timeout
    │   ├── ConnectionsExhausted 503  every allowed connection stayed busy
    │   ├── BackendTimeout       504  connected, but it did not answer in time
    │   ├── BackendBrokeOff      502  it closed or reset before its answer was whole
    │   └── BadResponse          502  its answer is not HTTP, or is ambiguous
    └── OwnFault                      ours
        ├── Draining             503  the process is stopping
        └── Internal             500  a defect; its traceback is in the log

What never lives here: text formats, HTTP machinery, anything that waits.
"""

from enum import StrEnum
from typing import ClassVar


class Cause(StrEnum):
    """How an exchange ended: the closed list that log lines and counters are keyed by."""

    OK = "ok"
    CLIENT_GONE = "client_gone"
    BACKEND_TIMEOUT = "backend_timeout"
    CONNECT_FAILED = "connect_failed"
    BACKEND_BROKE_OFF = "backend_broke_off"
    BAD_RESPONSE = "bad_response"
    BODY_TOO_LARGE = "body_too_large"
    CLIENT_TOO_SLOW = "client_too_slow"
    NO_ROUTE = "no_route"
    BAD_REQUEST = "bad_request"
    DRAINED = "drained"
    INTERNAL = "internal"


class Phase(StrEnum):
    """Where the time of one exchange goes. Phases never overlap, so that they sum up to the whole."""

    # Enum's own goes through Python, for each of the many look-ups that every request makes.
    __hash__ = str.__hash__

    QUEUE = "queue"
    """Inside the gateway: routing, the wait for the client's first body bytes, the wait for a free connection."""
    CONNECT = "connect"
    """Name resolution, TCP and TLS towards the backend."""
    SEND = "send"
    """The request's head and body on their way to the backend, the client's own pauses included."""
    FIRST_BYTE = "first_byte"
    """The request is out, the answer's head is not yet whole."""
    BODY = "body"
    """The answer's body on its way to the client."""


class GatewayError(Exception):
    """A failure with an answer of its own. ``str(error)`` is the sentence for the client: no address, no secret."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    cause: ClassVar[Cause] = Cause.INTERNAL
    proxy_error: ClassVar[str] = "proxy_internal_error"
    """The error type registered by RFC 9209 section 2.3."""

    def __init__(self, message: str, *, phase: Phase | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.phase = phase
        self.detail = detail
        """What only the log may tell: it can hold addresses."""


class ClientFault(GatewayError):
    """The client's doing: 4xx."""

    status = 400
    code = "bad_request"
    cause = Cause.BAD_REQUEST
    proxy_error = "http_request_error"


class BadRequest(ClientFault):
    """400: the message is malformed or ambiguous, or its path would leave the service's prefix."""


class MethodNotAllowed(BadRequest):
    """405: one of the gateway's own endpoints does not take this method."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: bytes) -> None:
        super().__init__(message)
        self.allow = allow
        """The value of Allow, which RFC 9110 section 15.5.6 demands beside this status."""


class HeadTooLarge(BadRequest):
    """431: the head of the request is over the server's limits."""

    status = 431
    code = "header_fields_too_large"


class VersionNotSupported(BadRequest):
    """505: neither HTTP/1 nor HTTP/2."""

    status = 505
    code = "http_version_not_supported"


class NotImplementedMethod(BadRequest):
    """501: what this gateway does not speak: CONNECT, transfer codings other than chunked."""

    status = 501
    code = "not_implemented"


class NoRoute(ClientFault):
    """404: no service answers to this path."""

    status = 404
    code = "not_found"
    cause = Cause.NO_ROUTE
    proxy_error = "destination_not_found"


class RequestTimeout(ClientFault):
    """408: the client was too slow with its body, or to read its answer."""

    status = 408
    code = "request_timeout"
    cause = Cause.CLIENT_TOO_SLOW


class PayloadTooLarge(ClientFault):
    """413: the request body is over the limit."""

    status = 413
    code = "payload_too_large"
    cause = Cause.BODY_TOO_LARGE


class ClientGone(ClientFault):
    """499: the client left. Nobody reads the answer; the status is for the log and the counters."""

    status = 499
    code = "client_gone"
    cause = Cause.CLIENT_GONE


class BackendFault(GatewayError):
    """The service's doing: 502, 503, 504."""

    status = 502
    code = "bad_gateway"
    cause = Cause.BACKEND_BROKE_OFF
    proxy_error = "http_protocol_error"


class ConnectFailed(BackendFault):
    """503: refused, unreachable, no such name, or no TLS with it."""

    status = 503
    code = "service_unavailable"
    cause = Cause.CONNECT_FAILED
    proxy_error = "destination_unavailable"


class ConnectTimeout(BackendFault):
    """504: no connection within the connect timeout."""

    status = 504
    code = "gateway_timeout"
    cause = Cause.BACKEND_TIMEOUT
    proxy_error = "connection_timeout"


class ConnectionsExhausted(BackendFault):
    """503: every connection that the service may have stayed busy until the clock ran out."""

    status = 503
    code = "service_unavailable"
    cause = Cause.CONNECT_FAILED
    proxy_error = "connection_limit_reached"


class BackendTimeout(BackendFault):
    """504: connected, but the backend kept the gateway waiting for too long."""

    status = 504
    code = "gateway_timeout"
    cause = Cause.BACKEND_TIMEOUT
    proxy_error = "http_response_timeout"


class BackendBrokeOff(BackendFault):
    """502: the connection ended before the answer was whole."""

    proxy_error = "http_response_incomplete"


class BadResponse(BackendFault):
    """502: what came back is not HTTP, or is ambiguous."""

    cause = Cause.BAD_RESPONSE


class OwnFault(GatewayError):
    """The gateway's own doing."""


class Draining(OwnFault):
    """503: the process is stopping and the drain's time is over."""

    status = 503
    code = "service_unavailable"
    cause = Cause.DRAINED
    proxy_error = "proxy_internal_response"


class Internal(OwnFault):
    """500: a defect in the gateway. The traceback is in the log, never in the answer."""
