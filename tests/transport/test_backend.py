"""The transport as httpx sees it: any httpx client can use it, and a request is never sent twice that must not be."""

import gc
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from math import inf
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from gateway.testing.backend import Backend, Connection, respond, response
from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork
from gateway.transport import BackendTransport
from gateway.transport.backend import SWEEP_INTERVAL, open_tcp

OK = response(body=b"ok")


@pytest.fixture
def transport(network: MemoryNetwork) -> BackendTransport:
    return BackendTransport(connect=network.connect)


@pytest.fixture
async def client(transport: BackendTransport) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=transport, base_url="http://backend") as client:
        yield client


async def test_httpx_client_works_on_it(network: MemoryNetwork, client: httpx.AsyncClient) -> None:
    async with Backend(network, "backend", 80, respond(201, [(b"X-A", b"1")], b"made")) as backend:
        answer = await client.post("/things?a=b", json={"n": 1}, headers={"X-B": "2"})
        assert (answer.status_code, answer.content, answer.headers["x-a"]) == (201, b"made", "1")
        assert answer.http_version == "HTTP/1.1"
    (request,) = backend.requests
    assert (request.method, request.target, request.body) == (b"POST", b"/things?a=b", b'{"n":1}')
    assert request.get(b"host") == b"backend"


async def test_streamed_upload_and_download_of_an_httpx_client(
    network: MemoryNetwork, client: httpx.AsyncClient
) -> None:
    async def echo(conn: Connection) -> None:
        request = await conn.read_request()
        await conn.send(response(body=request.body))

    async def body() -> AsyncIterator[bytes]:
        for letter in (b"a", b"b", b"c"):
            yield letter * 1000

    async with (
        Backend(network, "backend", 80, echo),
        client.stream("PUT", "/", content=body()) as answer,
    ):
        assert [piece async for piece in answer.aiter_raw()]
    assert answer.num_bytes_downloaded == 3000


async def test_connection_is_used_again(
    network: MemoryNetwork, client: httpx.AsyncClient, transport: BackendTransport
) -> None:
    async with Backend(network, "backend", 80, respond()) as backend:
        for _ in range(3):
            await client.get("/")
        assert len(backend.connections) == 1
        assert (transport.leased, transport.idle) == (0, 1)
        assert "http://backend:80: 0 leased, 1 idle" in repr(transport)


async def test_exact_target_goes_out_as_given(network: MemoryNetwork, transport: BackendTransport) -> None:
    async with Backend(network, "backend", 80, respond()) as backend:
        request = httpx.Request("GET", "http://backend/", extensions={"target": b"//a%2Fb;c=d?"})
        await (await transport.handle_async_request(request)).aread()
    assert backend.requests[0].target == b"//a%2Fb;c=d?"


async def test_host_is_added_where_there_is_none(network: MemoryNetwork, transport: BackendTransport) -> None:
    async with Backend(network, "backend", 8080, respond()) as backend:
        request = httpx.Request("GET", "http://backend:8080/", stream=httpx.ByteStream(b""))
        await (await transport.handle_async_request(request)).aread()
    assert backend.requests[0].get(b"host") == b"backend:8080"


async def test_te_goes_out_with_the_connection_option_it_needs(
    network: MemoryNetwork, client: httpx.AsyncClient
) -> None:
    async with Backend(network, "backend", 80, respond()) as backend:
        request = client.build_request("GET", "/", headers={"TE": "trailers"})
        del request.headers["connection"]
        await client.send(request)
    assert backend.requests[0].all(b"connection") == [b"TE"]


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "x"}, {"Content-Length": "3"}, {"X": "a\r\nb"}], ids=["malformed", "wrong", "split"]
)
async def test_request_that_is_none_is_a_local_protocol_error(
    network: MemoryNetwork, transport: BackendTransport, headers: dict[str, str]
) -> None:
    async with Backend(network, "backend", 80, respond()):
        request = httpx.Request("POST", "http://backend/", headers=headers, stream=httpx.ByteStream(b"four"))
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(request)
        assert transport.leased == 0


async def test_synchronous_body_is_a_local_protocol_error(transport: BackendTransport) -> None:
    request = httpx.Request("POST", "http://backend/", content=iter([b"x"]))
    with pytest.raises(httpx.LocalProtocolError, match="asynchronous"):
        await transport.handle_async_request(request)


async def test_url_of_another_scheme_is_unsupported(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await client.get("ftp://backend/")


async def test_refused_connection_is_a_connect_error(client: httpx.AsyncClient, transport: BackendTransport) -> None:
    with pytest.raises(httpx.ConnectError):
        await client.get("/")
    assert transport.leased == 0


async def test_name_that_is_none_is_a_connect_error() -> None:
    async with httpx.AsyncClient(transport=BackendTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{'x' * 64}.invalid/")


async def test_https_backend_is_spoken_to_over_tls(network: MemoryNetwork) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("backend").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with Backend(network, "backend", 443, respond(body=b"secret"), tls=server) as backend:
        transport = BackendTransport(ssl_context=trusting, connect=network.connect)
        async with httpx.AsyncClient(transport=transport, base_url="https://backend") as client:
            assert (await client.get("/")).text == "secret"
            assert (await client.get("/")).text == "secret"
            assert len(backend.connections) == 1


async def test_https_backend_that_is_not_trusted_is_a_connect_error(network: MemoryNetwork) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("backend").configure_cert(server)
    async with Backend(network, "backend", 443, respond(), tls=server):
        transport = BackendTransport(connect=network.connect)
        async with httpx.AsyncClient(transport=transport, base_url="https://backend") as client:
            with pytest.raises(httpx.ConnectError, match="no TLS"):
                await client.get("/")
        assert transport.leased == 0
    assert network.open_streams == []


# Stale connections


def once_then(end: str) -> list[object]:
    """A backend that answers one request on its first connection and ends it over the second; then a sound one."""

    async def first(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(OK)
        await conn.read_request()
        if end == "reset":
            conn.reset()
        if end == "half an answer":
            await conn.send(b"HTTP/1.1 200 OK\r\n")

    return [first, respond(body=b"again")]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_idempotent_request_on_a_connection_that_dies_is_sent_once_more(
    network: MemoryNetwork, client: httpx.AsyncClient, method: str, end: str
) -> None:
    async with Backend(network, "backend", 80, once_then(end)) as backend:  # type: ignore[arg-type] # a list of scripts
        await client.get("/")
        assert (await client.request(method, "/x")).status_code == 200
    assert [request.target for request in backend.requests] == [b"/", b"/x", b"/x"]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    ("method", "content"), [("POST", b""), ("POST", b"x"), ("PATCH", b""), ("PUT", b"x"), ("BREW", b"")]
)
async def test_request_that_may_have_been_acted_on_is_never_sent_twice(
    network: MemoryNetwork, client: httpx.AsyncClient, method: str, content: bytes, end: str
) -> None:
    async with Backend(network, "backend", 80, once_then(end)) as backend:  # type: ignore[arg-type] # as above
        await client.get("/")
        with pytest.raises(httpx.ReadError):
            await client.request(method, "/x", content=content)
    assert [request.target for request in backend.requests] == [b"/", b"/x"]


async def test_request_whose_answer_had_begun_is_not_sent_again(
    network: MemoryNetwork, client: httpx.AsyncClient
) -> None:
    scripts = once_then("half an answer")
    async with Backend(network, "backend", 80, scripts) as backend:  # type: ignore[arg-type] # as above
        await client.get("/")
        with pytest.raises(httpx.ReadError):
            await client.get("/x")
    assert len(backend.requests) == 2


async def test_request_on_a_fresh_connection_that_dies_is_not_sent_again(
    network: MemoryNetwork, client: httpx.AsyncClient
) -> None:
    async def die(conn: Connection) -> None:
        await conn.read_request()

    async with Backend(network, "backend", 80, [die, respond()]) as backend:
        with pytest.raises(httpx.ReadError):
            await client.get("/")
    assert len(backend.connections) == 1


async def test_request_is_sent_a_second_time_and_no_third(network: MemoryNetwork, client: httpx.AsyncClient) -> None:
    async def die(conn: Connection) -> None:
        await conn.read_request()

    scripts = [once_then("close")[0], die, respond()]
    async with Backend(network, "backend", 80, scripts) as backend:  # type: ignore[arg-type] # as above
        await client.get("/")
        with pytest.raises(httpx.ReadError):
            await client.get("/x")
    assert len(backend.connections) == 2


async def test_post_does_not_meet_a_connection_that_was_seen_to_close(
    network: MemoryNetwork, client: httpx.AsyncClient
) -> None:
    async def one(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(OK)

    async with Backend(network, "backend", 80, [one, respond(body=b"fresh")]) as backend:
        await client.get("/")
        await backend.connections[0].finished.wait()
        assert (await client.post("/x", content=b"body")).text == "fresh"


async def test_post_of_which_not_a_byte_was_written_is_sent_on_a_fresh_connection() -> None:
    # Between the look at an idle connection and the write there is no time, so the connection is made to break there.
    network = SocketNetwork()
    opened: list[trio.SocketStream] = []

    async def connect(host: str, port: int) -> trio.SocketStream:
        opened.append(await network.connect(host, port))
        return opened[-1]

    async with (
        Backend(network, "backend", 80, respond(body=b"ok")) as backend,
        httpx.AsyncClient(transport=BackendTransport(connect=connect), base_url="http://backend") as client,
    ):
        await client.get("/")
        opened[0].socket.shutdown(trio.socket.SHUT_WR)
        answer = await client.post("/x", content=b"body")
        assert answer.text == "ok"
        assert [request.target for request in backend.requests] == [b"/", b"/x"]
        assert len(opened) == 2


async def test_unasked_bytes_on_an_idle_connection_never_answer_anybody(
    network: MemoryNetwork, client: httpx.AsyncClient
) -> None:
    poisoned = trio.Event()

    async def poison(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(OK)
        await poisoned.wait()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await conn.wait_closed()

    async with Backend(network, "backend", 80, [poison, respond(body=b"sound")]):
        assert (await client.get("/")).text == "ok"
        poisoned.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.get("/")).text == "sound"


async def test_idle_connection_closed_by_its_backend_is_dropped_within_a_sweep(
    network: MemoryNetwork, client: httpx.AsyncClient, transport: BackendTransport, autojump_clock: trio.abc.Clock
) -> None:
    async def short_lived(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(OK)
        await conn.sleep(5)

    async with Backend(network, "backend", 80, short_lived), trio.open_nursery() as nursery:
        nursery.start_soon(transport.watch_idle)
        await client.get("/")
        await trio.sleep(4.5)
        assert transport.idle == 1
        await trio.sleep(0.6 + SWEEP_INTERVAL)  # closed at 5 s; what falls on one moment may go either way
        assert transport.idle == 0
        assert network.open_streams == []
        nursery.cancel_scope.cancel()


# Ends


async def test_cancelled_request_closes_its_connection_at_once(
    network: MemoryNetwork, client: httpx.AsyncClient, transport: BackendTransport, autojump_clock: trio.abc.Clock
) -> None:
    closed: list[float] = []

    async def hang(conn: Connection) -> None:
        await conn.read_request()
        closed.append(await conn.wait_closed())

    start = trio.current_time()
    async with Backend(network, "backend", 80, hang):
        with trio.move_on_after(7):
            await client.get("/")
        await trio.testing.wait_all_tasks_blocked()
    assert closed == [start + 7]
    assert transport.leased == 0


async def test_answer_closed_before_its_end_closes_the_connection(
    network: MemoryNetwork, transport: BackendTransport
) -> None:
    async with Backend(network, "backend", 80, respond(body=b"x" * 200_000)) as backend:
        answer = await transport.handle_async_request(httpx.Request("GET", "http://backend/"))
        assert await anext(aiter(answer.stream))  # type: ignore[arg-type] # an asynchronous transport's
        await answer.aclose()
        assert (transport.leased, transport.idle) == (0, 0)
        await backend.connections[0].finished.wait()


async def test_answer_that_breaks_off_releases_its_slot(network: MemoryNetwork) -> None:
    async def short(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")

    transport = BackendTransport(max_connections=1, connect=network.connect)
    async with (
        Backend(network, "backend", 80, short),
        httpx.AsyncClient(transport=transport, base_url="http://backend") as client,
    ):
        for _ in range(3):
            with trio.fail_after(5), pytest.raises(httpx.ReadError):
                await client.get("/")


async def test_closing_the_transport_ends_what_is_under_way(
    network: MemoryNetwork, transport: BackendTransport, autojump_clock: trio.abc.Clock
) -> None:
    async def hang(conn: Connection) -> None:
        await conn.read_request()
        await conn.wait_closed()

    async with Backend(network, "backend", 80, hang), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(httpx.ReadError):
                await transport.handle_async_request(httpx.Request("GET", "http://backend/"))

        nursery.start_soon(ask)
        await trio.sleep(1)
        assert transport.leased == 1
        await transport.aclose()
    assert (transport.leased, transport.idle) == (0, 0)


async def test_trailers_are_known_behind_the_body(network: MemoryNetwork, transport: BackendTransport) -> None:
    async def script(conn: Connection) -> None:
        await conn.read_request()
        await conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nDigest: x\r\n\r\n")
        await conn.wait_closed()

    async with Backend(network, "backend", 80, script):
        answer = await transport.handle_async_request(httpx.Request("GET", "http://backend/"))
        content = [piece async for piece in answer.stream]  # type: ignore[union-attr] # an asynchronous transport's
        assert content == [b"a"]
        assert answer.stream.trailers == [(b"Digest", b"x")]  # type: ignore[union-attr] # our stream's own


def refusals() -> int:
    """How many of these errors somebody still holds, earlier tests included."""
    return sum(issubclass(type(thing), ConnectionRefusedError) for thing in gc.get_objects())


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, which has as many addresses as it is told."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, *_args: object, **_kwargs: object) -> list[Any]:
        """See HostnameResolver."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in self.addresses]

    async def getnameinfo(self, *_args: object) -> tuple[str, str]:
        """See HostnameResolver."""
        raise NotImplementedError


@pytest.fixture
def nobody() -> Iterator[tuple[str, int]]:
    """An address where connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


@pytest.mark.parametrize("addresses", [1, 2])
async def test_connection_that_is_refused_is_forgotten_without_the_garbage_collector(
    nobody: tuple[str, int], addresses: int
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(*[nobody] * addresses))
    gc.collect()
    gc.disable()
    try:
        before = refusals()
        with pytest.raises(OSError, match="connect"):
            await open_tcp("backend", nobody[1])
        assert refusals() == before
    finally:
        gc.enable()


async def test_of_several_addresses_the_one_that_answers_is_taken(nobody: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        trio.socket.set_custom_hostname_resolver(Resolver(nobody, listener.getsockname()))
        stream = await open_tcp("backend", 80)
        assert isinstance(stream, trio.SocketStream)
        assert stream.socket.getpeername() == listener.getsockname()
        await stream.aclose()


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_connection_to_one_address_waits_on_no_clock_and_leaves_no_socket_when_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        before = descriptors()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_tcp, *full.getsockname())
            await wait_all_tasks_blocked()
            statistics = trio.lowlevel.current_statistics()
            # One task of ours beside this one, and no time at which it would wake by itself.
            assert (len(nursery.child_tasks), statistics.seconds_to_next_deadline) == (1, inf)
            (waiting,) = nursery.child_tasks
            assert not waiting.child_nurseries
            nursery.cancel_scope.cancel()
        assert descriptors() == before
