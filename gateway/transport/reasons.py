"""Why there is no connection to a backend, in words that anybody may read."""

import os
import socket
import ssl


def why_no_connection(error: BaseException) -> str:
    """The innermost reason behind ``error``, in words that hold no address and no name."""
    reason: BaseException | None = error
    words = "it is unreachable"
    while reason is not None:
        match reason:
            case socket.gaierror():
                words = "its name does not resolve"
            case ssl.SSLError():
                words = "the TLS handshake failed"
            case OSError(errno=int(number)):
                words = os.strerror(number).lower()
        # Of several addresses tried, the last speaks for all.
        reason = reason.exceptions[-1] if isinstance(reason, BaseExceptionGroup) else reason.__cause__
    return words
