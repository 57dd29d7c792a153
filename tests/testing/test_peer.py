import pytest
import trio
from trio.testing import MockClock

from gateway.testing.backend import Connection
from gateway.testing.clients import RawClient
from gateway.testing.peer import Message, NotHTTPError, Peer, PeerGoneError, Request, Response
from gateway.testing.streams import memory_stream_pair


def peers() -> tuple[RawClient, Connection]:
    ours, theirs = memory_stream_pair()
    return RawClient(ours), Connection(theirs, 0)


async def test_request_is_read_as_it_came() -> None:
    client, conn = peers()
    head = b"PUT /a%2Fb? HTTP/1.1\r\nX-One:  1 \r\nx-one: 2\r\nHost:\r\nContent-Length: 3\r\n\r\n"
    await client.send(head + b"abcNEXT")
    request = await conn.read_request()
    assert (request.method, request.target, request.version) == (b"PUT", b"/a%2Fb?", b"HTTP/1.1")
    assert request.headers == [(b"X-One", b"1"), (b"x-one", b"2"), (b"Host", b""), (b"Content-Length", b"3")]
    assert request.all(b"X-ONE") == [b"1", b"2"]
    assert (request.get(b"host"), request.get(b"cookie")) == (b"", None)
    assert (request.head, request.body) == (head, b"abc")
    assert await conn.receive() == b"NEXT"
    assert conn.received == head + b"abcNEXT"
    with pytest.raises(NotHTTPError, match="stands 2 times"):
        request.get(b"x-one")


async def test_start_line_with_parts_missing_has_them_empty() -> None:
    assert Message.parse(b"nonsense\r\n\r\n").start == (b"nonsense", b"", b"")


async def test_header_line_without_colon_is_not_http() -> None:
    with pytest.raises(NotHTTPError, match="not a header line"):
        Request.parse(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n")


async def test_chunked_body_is_read_with_extensions_and_trailers() -> None:
    client, conn = peers()
    await client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.send(b"2;x=y\r\nab\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n")
    request = await conn.read_request()
    assert request.body == b"ab0123456789"
    assert request.trailers == [(b"X-Sum", b"1")]


@pytest.mark.parametrize("chunks", [b"nonsense\r\n", b"1\r\nab\r\n"])
async def test_wrong_chunk_is_not_http(chunks: bytes) -> None:
    client, conn = peers()
    await client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    await conn.read_head()
    with pytest.raises(NotHTTPError):
        await conn.read_body()


@pytest.mark.parametrize("sent", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc"])
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_message_that_breaks_off_raises_peer_gone(sent: bytes, how: str, autojump_clock: MockClock) -> None:
    client, conn = peers()
    await client.send(sent)
    await client.sleep(3)
    (client.close if how == "closed" else client.reset)()
    with pytest.raises(PeerGoneError):
        await conn.read_request()
    assert conn.received == sent
    assert (conn.gone_at, conn.was_reset) == (3, how == "reset")


async def test_arrivals_carry_their_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    client, conn = peers()
    nursery.start_soon(conn.wait_closed)
    await client.send(b"a")
    await client.sleep(1.5)
    await client.send(b"b")
    await client.sleep(0.25)
    client.close()
    assert await conn.wait_closed() == 1.75
    assert conn.arrivals == [(0, b"a"), (1.5, b"b")]


async def test_closing_is_seen_while_the_script_reads_in_another_task(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    client, conn = peers()

    async def read() -> None:
        with pytest.raises(PeerGoneError):
            await conn.read_head()

    nursery.start_soon(read)
    nursery.start_soon(client.sleep, 2)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(close_after, client, 2)
    assert await conn.wait_closed() == 2


async def close_after(peer: Peer, seconds: float) -> None:
    await peer.sleep(seconds)
    peer.close()


async def test_closing_is_seen_without_reading(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    client, conn = peers()
    await client.send(b"unread")
    nursery.start_soon(close_after, client, 2)
    assert await conn.wait_closed(reading=False) == 2
    assert conn.received == b""


async def test_waiting_for_the_other_end_raises_once_this_end_is_closed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    _client, conn = peers()
    nursery.start_soon(close_after, conn, 1)
    with pytest.raises(trio.ClosedResourceError):
        await conn.wait_closed()


async def test_sending_to_who_has_left_raises_peer_gone(autojump_clock: MockClock) -> None:
    client, conn = peers()
    client.reset()
    await conn.sleep(1)
    with pytest.raises(PeerGoneError, match="before it took b'x'"):
        await conn.send(b"x")
    assert await conn.wait_closed() == 1
    with pytest.raises(PeerGoneError):
        await conn.half_close()


async def test_half_close_ends_one_direction() -> None:
    client, conn = peers()
    await client.half_close()
    assert await conn.read_to_end() == b""
    await conn.send(b"still here")
    assert await client.read_exactly(10) == b"still here"


async def test_cancelled_read_keeps_what_has_come(autojump_clock: MockClock) -> None:
    client, conn = peers()
    await client.send(b"GET / HTTP/1.1\r\n")
    with trio.move_on_after(1):
        await conn.read_head()
    await client.send(b"\r\n")
    assert (await conn.read_head()).method == b"GET"


@pytest.mark.parametrize(
    ("method", "sent", "status", "body"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 200, b"ab"),
        (b"GET", b"HTTP/1.1 200\r\n\r\nto the end", 200, b"to the end"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, b""),
        (b"GET", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 103, b""),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, b""),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    ],
)
async def test_response_is_read(method: bytes, sent: bytes, status: int, body: bytes) -> None:
    client, conn = peers()
    await conn.send(sent)
    conn.close()
    response = await client.read_response(method=method)
    assert (response.status, response.body) == (status, body)


async def test_reason_is_kept() -> None:
    assert Response.parse(b"HTTP/1.1 404 Not Found\r\n\r\n").reason == b"Not Found"
