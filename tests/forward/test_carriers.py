"""How the tree's requests look to transports that are not ours, and what it makes of their answers."""

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.errors import BadResponse
from gateway.forward.carriers import HttpxAnswer, carrier_of, url_of
from gateway.transport import BackendTransport, Hooks, Request

ORIGIN = httpx.URL("http://backend:8001")


class Pieces(httpx.AsyncByteStream):
    """A body in pieces that knows nothing of its end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("target", "raw_path"), [(b"/api/x?y=%2F", b"/api/x?y=%2F"), (b"/api/x?", b"/api/x?"), (b"//a;b", b"//a;b")]
)
def test_another_transport_is_shown_the_path(target: bytes, raw_path: bytes) -> None:
    assert url_of(ORIGIN, target).raw_path == raw_path


def test_target_that_makes_no_url_leaves_the_origin() -> None:
    assert url_of(ORIGIN, b"/" + b"x" * 70_000) == ORIGIN


async def test_another_transport_gets_method_target_fields_and_body_as_they_are() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    carry = carrier_of(httpx.MockTransport(answer), "http://backend:8001")
    hooks = Hooks()
    await carry(Request(b"pOST", b"/x?", [(b"X-A", b"\xe9"), (b"x-a", b"")], b"abc", 3), hooks)
    [request] = seen
    assert request.method == "pOST"
    assert request.extensions == {"target": b"/x?", "gateway": hooks}
    assert request.headers.raw == [(b"X-A", b"\xe9"), (b"x-a", b"")]
    assert request.content == b"abc"


async def test_another_transport_gets_a_body_in_pieces_in_the_form_that_httpx_asks_for() -> None:
    class Body:
        def __init__(self) -> None:
            self.left = [b"a", b"b"]

        def __aiter__(self) -> "Body":
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    class Strict(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)  # as httpx.AsyncHTTPTransport asserts
            return httpx.Response(200, content=b"-".join([piece async for piece in request.stream]))

    carry = carrier_of(Strict(), "http://backend:8001")
    reply = await carry(Request(b"POST", b"/", [(b"transfer-encoding", b"chunked")], Body(), None), Hooks())
    assert [piece async for piece in reply] == [b"a-b"]


async def test_answer_of_another_transport_is_read_piece_by_piece_and_closed() -> None:
    stream = Pieces(b"a", b"b")
    response = httpx.Response(299, headers=[(b"X", b"1")], stream=stream, extensions={"http_version": b"HTTP/2"})
    answer = HttpxAnswer(response)
    assert (answer.head.status, answer.head.http_version, answer.head.headers) == (299, "2", [(b"X", b"1")])
    assert answer.take_buffered() == b""
    assert [piece async for piece in answer] == [b"a", b"b"]
    assert answer.at_end is False
    assert answer.trailers == []
    await answer.aclose()
    assert stream.closed


async def test_malformed_answer_of_another_transport_is_closed() -> None:
    stream = Pieces(b"a")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=[(b"X", b"1\r\nY: 2")], stream=stream))
    with pytest.raises(BadResponse):
        await carrier_of(transport, "http://backend:8001")(Request(b"GET", b"/", [], b"", 0), Hooks())
    assert stream.closed


def test_origin_that_is_neither_http_nor_https_is_refused_when_the_way_is_made() -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        carrier_of(BackendTransport(), "ftp://backend")
