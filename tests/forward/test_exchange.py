"""Where the requests for one service go."""

import httpx
import pytest

from gateway.clocks import Limits
from gateway.config import Service
from gateway.forward import Upstream
from gateway.headers import TrustedProxies
from gateway.transport import BackendTransport


def upstream(transport: httpx.AsyncBaseTransport) -> Upstream:
    return Upstream(
        service=Service(name="a", host="backend", port=8001),
        transport=transport,
        limits=Limits(),
        max_body_size=1,
        trusted=TrustedProxies(),
        date=lambda _now: b"",
    )


def test_our_own_transport_is_given_the_origin_because_the_target_goes_apart() -> None:
    assert str(upstream(BackendTransport()).url_of(b"/api/x?y")) == "http://backend:8001"


@pytest.mark.parametrize(
    ("target", "raw_path"), [(b"/api/x?y=%2F", b"/api/x?y=%2F"), (b"/api/x?", b"/api/x?"), (b"//a;b", b"//a;b")]
)
def test_another_transport_is_shown_the_path(target: bytes, raw_path: bytes) -> None:
    mock = httpx.MockTransport(lambda _request: httpx.Response(200))
    assert upstream(mock).url_of(target).raw_path == raw_path


def test_target_that_makes_no_url_leaves_the_origin() -> None:
    mock = httpx.MockTransport(lambda _request: httpx.Response(200))
    assert str(upstream(mock).url_of(b"/" + b"x" * 70_000)) == "http://backend:8001"
