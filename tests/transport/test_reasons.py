"""The words for a connection that did not come about."""

import errno
import socket
import ssl

import httpx
import pytest

from gateway.transport.reasons import why_no_connection


def caused_by(reason: BaseException) -> httpx.ConnectError:
    error = httpx.ConnectError("192.0.2.1:8001 said no")
    error.__cause__ = reason
    return error


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "192.0.2.1"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "192.0.2.1"), "no route to host"),
        (socket.gaierror(socket.EAI_NONAME, "service1.internal"), "its name does not resolve"),
        (ssl.SSLCertVerificationError(1, "not valid for service1.internal"), "the TLS handshake failed"),
        (OSError("192.0.2.1"), "it is unreachable"),
        (ValueError("192.0.2.1"), "it is unreachable"),
    ],
)
def test_reason_is_told_without_address_or_name(reason: Exception, words: str) -> None:
    assert why_no_connection(caused_by(reason)) == words
    assert why_no_connection(reason) == words


def test_innermost_reason_is_told_and_of_several_addresses_the_last() -> None:
    several = OSError("all attempts to connect to service1.internal:8001 failed")
    several.__cause__ = ExceptionGroup(
        "", [OSError(errno.EHOSTUNREACH, "2001:db8::1"), ConnectionRefusedError(errno.ECONNREFUSED, "192.0.2.1")]
    )
    assert why_no_connection(caused_by(several)) == "connection refused"


def test_error_without_a_cause_is_told_all_the_same() -> None:
    assert why_no_connection(httpx.ConnectError("192.0.2.1:8001 said no")) == "it is unreachable"
