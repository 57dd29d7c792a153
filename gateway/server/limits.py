"""How long a client may take and how much it may ask for. Pure: ``now`` is passed in."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server grants its clients. Times are seconds of trio's clock, sizes are bytes.

    ================================  =================================================================================
    ``client_timeout``                a client may leave no room for the answer this long; then its connection is
                                      aborted (HTTP/2: only the stream, where it is the stream's window that is shut)
    ``keep_alive_timeout``            a connection may be idle this long; then it is closed
    ``header_timeout``                from the first byte of a request's head to its last; then 408
    ``handshake_timeout``             for the TLS handshake
    ``linger_timeout``                after an answer that came before the request's body had: how long what the client
                                      still sends is read and thrown away, so that it gets to read the answer
    ``drain_delay``                   after the shutdown began: how long new connections are still accepted
    ``replace_delay``                 after a process was replaced: how long its connections may still bring requests,
                                      each answered with ``connection: close``; less where all have gone before
    ``drain_timeout``                 after that: how long requests in flight may go on
    ``cut_timeout``                   after that: how long an app that was told to end may take
    ``max_connections``               open connections; further ones wait in the backlog of the listening socket
    ``max_streams``                   concurrent requests on one HTTP/2 connection
    ``max_head_size``                 of one request's head
    ``request_buffer``                of a request's body that the app has not read yet; then the client is held back
    ``response_buffer``               of answers that wait for the socket, per HTTP/2 connection; then the apps are
                                      held back
    ``max_resets``                    streams that an HTTP/2 client may reset within ten seconds (CVE-2023-44487)
    ``max_control_frames``            PING, SETTINGS, unknown frames and DATA without data that it may send within ten
                                      seconds; PRIORITY ten times as many
    ================================  =================================================================================
    """

    client_timeout: float = 60.0
    keep_alive_timeout: float = 75.0
    header_timeout: float = 30.0
    handshake_timeout: float = 10.0
    linger_timeout: float = 2.0
    drain_delay: float = 0.0
    replace_delay: float = 5.0
    drain_timeout: float = 30.0
    cut_timeout: float = 1.0
    max_connections: float = inf
    max_streams: int = 100
    max_head_size: int = 65_536
    request_buffer: int = 131_072
    response_buffer: int = 131_072
    max_resets: int = 200
    max_control_frames: int = 1_000


class Rate:
    """Counts what happens within a window of ``seconds``, which begins anew with the first event after it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = -inf
        self._count = 0

    def one_more(self, now: float) -> int:
        """How many there have been in the window, this one included."""
        if now - self._since >= self._seconds:
            self._since = now
            self._count = 0
        self._count += 1
        return self._count
