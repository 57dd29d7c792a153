"""Foreign exceptions become ours by a table."""

import httpx
import pytest

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
from gateway.forward.translation import first, translate


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (httpx.ConnectError("x"), ConnectFailed),
        (httpx.ConnectTimeout("x"), ConnectTimeout),
        (httpx.PoolTimeout("x"), ConnectionsExhausted),
        (httpx.ReadTimeout("x"), BackendTimeout),
        (httpx.WriteTimeout("x"), BackendTimeout),
        (httpx.ReadError("x"), BackendBrokeOff),
        (httpx.WriteError("x"), BackendBrokeOff),
        (httpx.CloseError("x"), BackendBrokeOff),
        (httpx.RemoteProtocolError("x"), BadResponse),
        (httpx.LocalProtocolError("x"), BadRequest),
        (httpx.ProxyError("x"), BackendBrokeOff),
        (httpx.UnsupportedProtocol("x"), BackendBrokeOff),
    ],
)
def test_each_failure_of_a_transport_is_one_of_ours(theirs: httpx.TransportError, ours: type[GatewayError]) -> None:
    failure = translate(theirs)
    assert type(failure) is ours
    assert failure.__cause__ is theirs
    assert str(failure)


def test_address_stays_out_of_the_answer_and_in_the_log() -> None:
    failure = translate(httpx.ConnectError("all attempts to connect to 10.0.0.7:8001 failed"))
    assert "10.0.0.7" not in failure.message
    assert "10.0.0.7" in (failure.detail or "")


def test_failure_without_words_still_has_some() -> None:
    assert translate(httpx.ReadError("")).message == "the transport failed"


def test_first_of_nested_groups_is_found() -> None:
    cause = httpx.ReadError("first")
    assert first(ExceptionGroup("a", [ExceptionGroup("b", [cause]), httpx.ReadError("second")])) is cause
