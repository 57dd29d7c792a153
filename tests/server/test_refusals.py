"""What is said to a client that never gets as far as the app."""

import pytest

from gateway.server.heads import Refused
from gateway.server.refusals import refusal_of, say_no_more


@pytest.mark.parametrize(
    ("start", "method", "target"),
    [
        (b"GET /x?y HTTP/1.1\r\nHost: a\r\n", "GET", b"/x?y"),
        (b"GET /x", "GET", b"/x"),
        (b"get * HTTP/1.1\nHost", "get", b"*"),
        (b"GET  /x HTTP/1.1", "GET", None),
        (b"GET /\xe9 HTTP/1.1", "GET", None),
        (b"G(T /x HTTP/1.1", None, None),
        (b"\x16\x03\x01\x02\x00", None, None),
        (b"GET /" + b"x" * 9000, "GET", None),
        (b"", None, None),
    ],
)
def test_method_and_target_are_told_each_where_it_is_sound(
    start: bytes, method: str | None, target: bytes | None
) -> None:
    refusal = refusal_of(Refused(400, "why"), http_version="1.1", client=None, secure=False, start=start)
    assert (refusal.method, refusal.target) == (method, target)
    assert (refusal.status, refusal.reason) == (400, "why")


def test_by_itself_the_server_says_the_status_alone() -> None:
    assert say_no_more(refusal_of(Refused(400, "why"), http_version="2", client=None, secure=True)) == ([], b"")
