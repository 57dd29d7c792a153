"""One connection to a scripted backend: what goes out, what comes in, and what is left of it."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import trio
import trio.testing

from gateway.errors import Phase
from gateway.http1 import RawHeaders
from gateway.testing.backend import Backend
from gateway.testing.backend import Connection as BackendEnd
from gateway.testing.network import MemoryNetwork
from gateway.transport.connection import MAX_INFORMATIONAL, Connection, Hooks, Request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(
    method: bytes = b"GET",
    body: bytes | AsyncIterator[bytes] = b"",
    length: int | None = 0,
    headers: RawHeaders | None = None,
) -> Request:
    return Request(method, b"/x", headers or [(b"Host", b"backend")], body, length, keep_alive=True)


class pieces(AsyncIterator[bytes]):  # noqa: N801 -- reads as a function; an abandoned generator would complain
    """A body in pieces, each ``pause`` seconds behind the one before."""

    def __init__(self, *content: bytes, pause: float = 0) -> None:
        self._content = iter(content)
        self._pause = 0.0
        self._next_pause = pause

    async def __anext__(self) -> bytes:
        await trio.sleep(self._pause)
        self._pause = self._next_pause
        for piece in self._content:
            return piece
        raise StopAsyncIteration


async def connect(network: MemoryNetwork) -> Connection:
    return Connection(await network.connect("backend", 80))


async def read_all(connection: Connection) -> bytes:
    content = b""
    while piece := await connection.read_body():
        content += piece
    return content


async def test_exchange_goes_out_and_comes_back_byte_for_byte(network: MemoryNetwork) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.read_request()
        await conn.send(OK)
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script) as backend:
        connection = await connect(network)
        head = await connection.exchange(
            request(b"pOsT", b"body", 4, [(b"HOST", b"b"), (b"Content-Length", b"4")]), Hooks()
        )
        assert (head.status, head.reason) == (200, b"OK")
        assert await read_all(connection) == b"ok"
        assert connection.at_end
        assert connection.reusable
        connection.abort()
        assert "idle" not in repr(connection)
    assert backend.connections[0].received == b"pOsT /x HTTP/1.1\r\nHOST: b\r\nContent-Length: 4\r\n\r\nbody"


async def test_second_exchange_on_the_connection_starts_afresh(network: MemoryNetwork) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nChecksum: 7\r\n\r\n")
        await conn.read_request()
        await conn.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        await connection.exchange(request(), Hooks())
        assert await read_all(connection) == b"a"
        assert connection.trailers == [(b"Checksum", b"7")]
        head = await connection.exchange(request(), Hooks())
        assert head.status == 204
        assert await read_all(connection) == b""
        assert connection.trailers == []
        assert connection.exchanges == 2


@pytest.mark.parametrize(
    ("length", "on_the_wire"),
    [(8, b"onetwo33"), (None, b"3\r\none\r\n3\r\ntwo\r\n2\r\n33\r\n0\r\n\r\n")],
)
@pytest.mark.parametrize("with_nursery", [True, False])
async def test_streamed_body_is_framed_as_announced(
    network: MemoryNetwork,
    length: int | None,
    on_the_wire: bytes,
    with_nursery: bool,  # noqa: FBT001 -- a parameter
) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.read_head()
        assert await conn.read_exactly(len(on_the_wire)) == on_the_wire
        await conn.send(OK)
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script), trio.open_nursery() as nursery:
        connection = await connect(network)
        body = pieces(b"one", b"", b"two", b"33")
        await connection.exchange(request(b"POST", body, length), Hooks(nursery=nursery if with_nursery else None))
        assert await read_all(connection) == b"ok"
        assert connection.reusable


@pytest.mark.parametrize("body", [b"", b"whole"])
async def test_whole_body_can_go_out_in_chunks(network: MemoryNetwork, body: bytes) -> None:
    on_the_wire = b"5\r\nwhole\r\n0\r\n\r\n" if body else b"0\r\n\r\n"

    async def script(conn: BackendEnd) -> None:
        await conn.read_head()
        assert await conn.read_exactly(len(on_the_wire)) == on_the_wire
        await conn.send(OK)

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        assert (await connection.exchange(request(b"POST", body, None), Hooks())).status == 200


@pytest.mark.parametrize("streamed", [True, False])
async def test_trailers_go_out_behind_the_chunks(network: MemoryNetwork, streamed: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    async def script(conn: BackendEnd) -> None:
        await conn.read_head()
        await conn.read_until(b"5\r\nwhole\r\n0\r\nX-Sum: 1\r\n\r\n")
        await conn.send(OK)

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        asked = request(b"POST", pieces(b"whole") if streamed else b"whole", None)
        asked.trailers = lambda: [(b"X-Sum", b"1")]
        assert (await connection.exchange(asked, Hooks())).status == 200


async def test_answer_comes_before_the_upload_ends_and_the_upload_goes_on(
    network: MemoryNetwork, autojump_clock: trio.abc.Clock
) -> None:
    async def echo(conn: BackendEnd) -> None:
        await conn.read_head()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(3):
            await conn.send(await conn.read_exactly(2))
        await conn.wait_closed()

    async with Backend(network, "backend", 80, echo), trio.open_nursery() as nursery:
        connection = await connect(network)
        phases: list[tuple[float, Phase]] = []
        start = trio.current_time()
        hooks = Hooks(nursery, lambda phase: phases.append((trio.current_time() - start, phase)))
        await connection.exchange(request(b"POST", pieces(b"ab", b"cd", b"ef", pause=1), 6), hooks)
        assert trio.current_time() == start
        arrived = []
        while piece := await connection.read_body():
            arrived.append((trio.current_time() - start, piece))
        assert arrived == [(0, b"ab"), (1, b"cd"), (2, b"ef")]
        await trio.sleep(5)
        assert connection.reusable
        assert phases == [(0, Phase.SEND), (3, Phase.FIRST_BYTE)]


async def test_early_answer_of_a_backend_that_closes_is_read(network: MemoryNetwork) -> None:
    async def refuse(conn: BackendEnd) -> None:
        await conn.read_head()
        await conn.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
        await conn.half_close()
        await conn.sleep(60)

    async with Backend(network, "backend", 80, refuse), trio.open_nursery() as nursery:
        connection = await connect(network)
        upload = pieces(*[b"x" * 60_000] * 100)
        head = await connection.exchange(request(b"POST", upload, None), Hooks(nursery))
        assert head.status == 413
        assert await read_all(connection) == b"much"
        assert not connection.reusable
        connection.abort()


async def test_answer_is_read_though_the_write_broke(network: MemoryNetwork) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        conn.close()

    async with Backend(network, "backend", 80, script) as backend:
        connection = await connect(network)
        await (await backend.connection(0)).finished.wait()
        await connection._stream.send_all(b"x")  # noqa: SLF001 -- the first write after the close goes into the void
        head = await connection.exchange(request(b"POST", b"body", 4), Hooks())
        assert head.status == 503
        assert not connection.reusable


async def test_informational_responses_are_handed_on_and_are_not_the_answer(network: MemoryNetwork) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)

    seen: list[tuple[int, RawHeaders]] = []

    async def informational(status: int, fields: RawHeaders) -> None:
        seen.append((status, fields))
        await trio.lowlevel.checkpoint()

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        head = await connection.exchange(request(), Hooks(informational=informational))
        assert head.status == 200
        assert await read_all(connection) == b"ok"
    assert seen == [(100, []), (103, [(b"Link", b"</a>")])]


def sends(
    data: bytes, *, then: Callable[[BackendEnd], None] = lambda conn: conn.close()
) -> Callable[[BackendEnd], object]:
    async def script(conn: BackendEnd) -> None:
        await conn.read_request()
        await conn.send(data)
        then(conn)

    return script


RESET = "reset"


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", bytes(9), b"\x15\x03\x01\x00\x02\x02\x28"])
async def test_backend_that_speaks_another_protocol_is_not_waited_for(
    network: MemoryNetwork, greeting: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.send(greeting)
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        with trio.fail_after(1), pytest.raises(httpx.RemoteProtocolError, match="does not begin as HTTP/1"):
            await connection.exchange(request(), Hooks())
        connection.abort()


@pytest.mark.parametrize(
    ("data", "end", "error", "why"),
    [
        (b"", "close", httpx.ReadError, "closed the connection before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nConte", "close", httpx.ReadError, "closed the connection before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nConte", RESET, httpx.ReadError, "reset the connection"),
        (b"SSH-2.0-x\r\n\r\n", "close", httpx.RemoteProtocolError, "not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n\r\n", "close", httpx.RemoteProtocolError, "malformed"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "close", httpx.RemoteProtocolError, "switches protocols"),
        (b"HTTP/1.1 100 C\r\n\r\n" * (MAX_INFORMATIONAL + 1), "close", httpx.RemoteProtocolError, "without end"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "close", httpx.RemoteProtocolError, "larger than"),
    ],
)
async def test_head_that_is_none_is_an_error_of_httpx(
    network: MemoryNetwork, data: bytes, end: str, error: type[Exception], why: str
) -> None:
    script = sends(data, then=lambda conn: conn.reset() if end == RESET else conn.close())
    async with Backend(network, "backend", 80, script):  # type: ignore[arg-type] # a script returns nothing of interest
        connection = await connect(network)
        with pytest.raises(error, match=why):
            await connection.exchange(request(), Hooks())
        assert connection.answering is bool(data)
        assert not connection.reusable
        connection.abort()


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", httpx.ReadError, "3 bytes short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", httpx.ReadError, "before its last chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", httpx.RemoteProtocolError, "chunk size"),
    ],
)
async def test_body_that_breaks_off_or_lies_is_an_error_of_httpx(
    network: MemoryNetwork, data: bytes, error: type[Exception], why: str
) -> None:
    async with Backend(network, "backend", 80, sends(data)):  # type: ignore[arg-type] # as above
        connection = await connect(network)
        await connection.exchange(request(), Hooks())
        with pytest.raises(error, match=why):
            await read_all(connection)
        assert not connection.reusable


@pytest.mark.parametrize(
    "data",
    [
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 204 No Content\r\n\r\npoison",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\npoison",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ],
)
async def test_connection_with_more_on_it_than_the_answer_is_not_used_again(
    network: MemoryNetwork, data: bytes
) -> None:
    async with Backend(network, "backend", 80, sends(data)):  # type: ignore[arg-type] # as above
        connection = await connect(network)
        await connection.exchange(request(), Hooks())
        content = await read_all(connection)
        assert b"poison" not in content
        assert not connection.reusable


async def test_request_that_asks_to_close_does_not_leave_the_connection_reusable(network: MemoryNetwork) -> None:
    async with Backend(network, "backend", 80, sends(OK)):  # type: ignore[arg-type] # as above
        connection = await connect(network)
        asked = request()
        asked.keep_alive = False
        await connection.exchange(asked, Hooks())
        await read_all(connection)
        assert not connection.reusable


@pytest.mark.parametrize("content", [[b"12345"], [b"12"]])
async def test_body_of_another_length_than_announced_is_refused(network: MemoryNetwork, content: list[bytes]) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        with pytest.raises(httpx.LocalProtocolError, match="not as long"):
            await connection.exchange(request(b"POST", pieces(*content), 3), Hooks())
        connection.abort()
        connection = await connect(network)
        with pytest.raises(httpx.LocalProtocolError, match="not as long"):
            await connection.exchange(request(b"POST", content[0], 3), Hooks())
        connection.abort()


async def test_header_that_would_split_the_request_never_goes_out(network: MemoryNetwork) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script) as backend:
        connection = await connect(network)
        with pytest.raises(httpx.LocalProtocolError):
            await connection.exchange(request(headers=[(b"X", b"a\r\nB: c")]), Hooks())
        connection.abort()
    assert backend.connections[0].received == b""


async def test_slow_reader_of_the_answer_holds_the_backend_back(
    network: MemoryNetwork, autojump_clock: trio.abc.Clock
) -> None:
    sent = 0

    async def script(conn: BackendEnd) -> None:
        nonlocal sent
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        for _ in range(1000):
            await conn.send(b"x" * 10_000)
            sent += 10_000

    async with Backend(network, "backend", 80, script):
        connection = await connect(network)
        await connection.exchange(request(), Hooks())
        await connection.read_body()
        await trio.sleep(60)
        assert sent < 300_000
        assert len(await read_all(connection)) > 9_000_000


async def test_abort_while_an_upload_is_under_way_ends_it_quietly(network: MemoryNetwork) -> None:
    async def script(conn: BackendEnd) -> None:
        await conn.read_head()
        await conn.send(OK)
        await conn.sleep(1_000_000)

    with trio.fail_after(5):
        async with trio.open_nursery() as outer:
            backend = Backend(network, "backend", 80, script)
            await outer.start(backend.run)
            async with trio.open_nursery() as nursery:
                connection = await connect(network)
                await connection.exchange(request(b"POST", pieces(*[b"x" * 60_000] * 9), None), Hooks(nursery))
                await read_all(connection)
                connection.abort()
            outer.cancel_scope.cancel()


async def test_reading_without_a_request_is_a_mistake_of_the_caller(network: MemoryNetwork) -> None:
    async with Backend(network, "backend", 80, sends(OK)):  # type: ignore[arg-type] # as above
        connection = await connect(network)
        with pytest.raises(RuntimeError):
            await connection.read_body()
        connection.abort()


async def test_repr_tells_the_state(network: MemoryNetwork) -> None:
    async with Backend(network, "backend", 80, sends(OK)):  # type: ignore[arg-type] # as above
        connection = await connect(network)
        assert repr(connection) == "<Connection busy, 0 exchanges>"
        await connection.exchange(request(), Hooks())
        assert repr(connection) == "<Connection answering, 1 exchanges>"
        await read_all(connection)
        assert repr(connection) == "<Connection idle, 1 exchanges>"


async def test_connection_closed_under_its_writer_is_a_read_error(
    network: MemoryNetwork, autojump_clock: trio.abc.Clock
) -> None:
    network.buffer_size = 1000

    async def deaf(conn: BackendEnd) -> None:
        await conn.sleep(1)
        connection.abort()

    async with Backend(network, "backend", 80, deaf):
        connection = await connect(network)
        with pytest.raises(httpx.ReadError):
            await connection.exchange(request(b"POST", b"x" * 10_000, 10_000), Hooks())


class WriterIsTold:
    """A socket as Linux has it: of what became of the connection the writer is told, and the reader finds an end."""

    def __init__(self, error: OSError) -> None:
        self._error = error
        self._answer = b"HTTP/1.1 200 OK\r\n\r\npart"
        self._over = trio.Event()

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if not data.startswith(b"POST "):
            self._over.set()
            raise trio.BrokenResourceError from self._error

    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        if not self._answer:
            await self._over.wait()
        data, self._answer = self._answer, b""
        return data

    def is_readable(self) -> bool:
        return True

    def close(self) -> None:
        self._over.set()


@pytest.mark.parametrize("reset", [True, False])
async def test_reset_that_only_the_upload_saw_is_no_end_of_the_answer(
    reset: bool,  # noqa: FBT001 -- a parameter
) -> None:
    # Behind the end of the stream the kernel says EPIPE; the answer had come whole by then.
    connection = Connection(WriterIsTold(ConnectionResetError() if reset else BrokenPipeError()))
    async with trio.open_nursery() as nursery:
        upload = request(b"POST", pieces(b"one", b"two"), None)
        await connection.exchange(upload, Hooks(nursery))
        if reset:
            with pytest.raises(httpx.ReadError):
                await read_all(connection)
        else:
            assert await read_all(connection) == b"part"
    assert not connection.reusable
