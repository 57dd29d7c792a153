"""Asking a stream without reading it, closing it without waiting, and TLS on top: in memory and over sockets."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme

from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork, reset
from gateway.transport.streams import NothingSent, Stream, abort, is_readable, plain, receive_some, start_tls

Network = MemoryNetwork | SocketNetwork
Pair = tuple[Stream, trio.abc.HalfCloseableStream]


@pytest.fixture(params=[MemoryNetwork, SocketNetwork])
def network(request: pytest.FixtureRequest) -> Network:
    made: Network = request.param()
    return made


@asynccontextmanager
async def pair(network: Network) -> AsyncIterator[Pair]:
    """A connection: the gateway's end, and the backend's."""
    async with network.listen("backend", 80) as listener:
        ours = await network.connect("backend", 80)
        theirs = await listener.accept()
        try:
            yield ours, theirs
        finally:
            await trio.aclose_forcefully(theirs)
            abort(ours)


async def readable_soon(stream: Stream) -> bool:
    """Over sockets the kernel delivers in its own time, so ask until it has."""
    with trio.move_on_after(2):
        while not is_readable(stream):  # noqa: ASYNC110 -- what the kernel has got has no event
            await trio.sleep(0.001)
        return True
    return False


async def test_quiet_stream_is_not_readable(network: Network) -> None:
    async with pair(network) as (ours, _):
        assert not is_readable(ours)
        assert not is_readable(plain(ours))


async def test_bytes_make_a_stream_readable_and_stay_to_be_read(network: Network) -> None:
    async with pair(network) as (stream, theirs):
        ours = plain(stream)
        await theirs.send_all(b"unasked")
        assert await readable_soon(ours)
        assert await ours.receive_some(100) == b"unasked"
        assert not is_readable(ours)


async def test_end_of_the_stream_makes_it_readable(network: Network) -> None:
    async with pair(network) as (ours, theirs):
        await theirs.aclose()
        assert await readable_soon(ours)


async def test_abort_wakes_whoever_waits_on_the_stream(network: Network) -> None:
    async with pair(network) as (ours, theirs):
        with pytest.RaisesGroup(trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.receive_some)
                await trio.testing.wait_all_tasks_blocked()
                abort(ours)
        assert await theirs.receive_some(1) == b""


async def test_abort_again_is_harmless(network: Network) -> None:
    async with pair(network) as (ours, _):
        abort(ours)
        abort(ours)


class Authority:
    """A certificate authority, and a server's and a client's context by it."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("backend").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@asynccontextmanager
async def tls_pair(
    network: Network, authority: Authority
) -> AsyncIterator[tuple[Stream, trio.SSLStream[trio.SocketStream]]]:
    async with pair(network) as (plain, theirs):
        far = trio.SSLStream(theirs, authority.server, server_side=True, https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.do_handshake)
            ours = await start_tls(plain, authority.client, "backend")
        # The session tickets that follow a handshake of TLS 1.3 must not look like unasked bytes, so they are taken in
        # with an answer first, as they are in every real exchange.
        await far.send_all(b"!")
        assert await ours.receive_some(1) == b"!"
        yield ours, far  # type: ignore[misc] # the kit's streams carry TLS as sockets do


async def test_tls_stream_is_readable_when_the_backend_says_something(network: Network, authority: Authority) -> None:
    async with tls_pair(network, authority) as (ours, far):
        assert not is_readable(ours)
        await far.send_all(b"unasked")
        assert await readable_soon(ours)


async def test_what_tls_has_taken_in_already_makes_it_readable(network: Network, authority: Authority) -> None:
    async with tls_pair(network, authority) as (ours, far):
        await far.send_all(b"two")
        assert await ours.receive_some(1) == b"t"
        assert is_readable(ours)


async def test_record_that_came_along_with_the_one_that_was_read_makes_it_readable(
    network: Network, authority: Authority
) -> None:
    async with tls_pair(network, authority) as (ours, far):
        sent = bytearray()
        carrier = far.transport_stream
        far.transport_stream = _Holding(sent)  # type: ignore[assignment] # all that is sent goes through send_all
        await far.send_all(b"answer")
        await far.send_all(b"unasked")
        await carrier.send_all(sent)
        await readable_soon(ours)
        assert await ours.receive_some(100) == b"answer"
        assert is_readable(ours)


class _Holding:
    """A stream that keeps what it is to send."""

    def __init__(self, sent: bytearray) -> None:
        self._sent = sent

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._sent += data


async def test_hostname_that_tls_refuses_leaves_nothing_open(network: Network, authority: Authority) -> None:
    async with pair(network) as (ours, theirs):
        with pytest.raises(ValueError, match="server_hostname"):
            await start_tls(ours, authority.client, ".backend")
        assert await theirs.receive_some(1) == b""


async def test_abort_closes_what_carries_tls(network: Network, authority: Authority) -> None:
    async with tls_pair(network, authority) as (ours, far):
        abort(ours)
        assert await far.transport_stream.receive_some(1) == b""


async def test_tls_with_an_unknown_certificate_is_refused_and_closed(network: Network, authority: Authority) -> None:
    async with pair(network) as (plain, theirs):
        far = trio.SSLStream(theirs, authority.server, server_side=True, https_compatible=True)

        async def shake_hands() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await far.do_handshake()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake_hands)
            with pytest.raises(trio.BrokenResourceError):
                await start_tls(plain, ssl.create_default_context(), "backend")
        with pytest.raises(trio.ClosedResourceError):
            await plain.send_all(b"x")


async def test_tls_handshake_cancelled_leaves_nothing_open(
    network: Network, authority: Authority, autojump_clock: trio.abc.Clock
) -> None:
    async with pair(network) as (plain, theirs):
        with trio.move_on_after(5) as scope:
            await start_tls(plain, authority.client, "backend")
        assert scope.cancelled_caught
        greeting = await theirs.receive_some()
        assert greeting
        assert await theirs.receive_some() == b""


async def test_bytes_cross_however_many(network: Network) -> None:
    async with pair(network) as (ours, theirs):
        content = bytes(range(256)) * 20_000
        received = bytearray()

        async def drain() -> None:
            while len(received) < len(content):
                received.extend(await theirs.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await plain(ours).send_all(content)
        assert received == content

        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, content)
            received.clear()
            while len(received) < len(content):
                received.extend(await receive_some(plain(ours), 1000))
        assert received == content


@pytest.mark.parametrize("patiently", [False, True])
async def test_read_waits_for_bytes_and_sees_the_end(network: Network, patiently: bool) -> None:  # noqa: FBT001 -- a parameter
    async with pair(network) as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"late")
        assert await receive_some(plain(ours), 100, patiently=patiently) == b"late"
        await theirs.aclose()
        assert await receive_some(plain(ours), 100, patiently=patiently) == b""


@pytest.mark.parametrize("patiently", [False, True])
async def test_read_and_write_after_abort_fail(network: Network, patiently: bool) -> None:  # noqa: FBT001 -- a parameter
    async with pair(network) as (stream, _):
        ours = plain(stream)
        abort(ours)
        with pytest.raises((trio.ClosedResourceError, NothingSent)):
            await ours.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await receive_some(ours, 1, patiently=patiently)


async def test_write_to_a_broken_socket_says_that_nothing_was_sent() -> None:
    async with pair(SocketNetwork()) as (ours, _):
        assert isinstance(ours, trio.SocketStream)
        ours.socket.shutdown(trio.socket.SHUT_WR)
        with pytest.raises(NothingSent):
            await plain(ours).send_all(b"x")


async def test_reset_is_an_error_of_the_read() -> None:
    async with pair(SocketNetwork()) as (ours, theirs):
        reset(theirs)
        with pytest.raises(trio.BrokenResourceError):
            await receive_some(plain(ours), 1, patiently=True)
