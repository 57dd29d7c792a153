"""What differs between sockets, TLS and memory: who is there, and how each way of closing looks from the other end."""

import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from gateway.server import transport
from gateway.testing.streams import memory_stream_pair

KINDS = ["socket", "memory", "TLS over a socket", "TLS in memory"]


@dataclass
class Ends:
    """A connection: the client's raw end, ours, and ours below TLS."""

    client: Any
    ours: Any

    @property
    def carrier(self) -> Any:
        return self.ours.transport_stream if isinstance(self.ours, trio.SSLStream) else self.ours


async def over_sockets(host: str = "127.0.0.1") -> tuple[trio.SocketStream, trio.SocketStream]:
    """A connection over real sockets: the client's end, ours."""
    async with (await trio.open_tcp_listeners(0, host=host))[0] as listener:
        client = await trio.open_tcp_stream(host, listener.socket.getsockname()[1])
        return client, await listener.accept()


@pytest.fixture(params=KINDS)
async def ends(request: pytest.FixtureRequest, certificates: tuple[str, str, ssl.SSLContext]) -> AsyncIterator[Ends]:
    client, ours = await over_sockets() if "socket" in request.param else memory_stream_pair()
    wrapped: Any = ours
    if "TLS" in request.param:
        # No handshake: a connection is closed in all of these ways before there has been one, too.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificates[:2])
        wrapped = trio.SSLStream(ours, context, server_side=True)
    yield Ends(client, wrapped)
    await client.aclose()
    transport.close(ours)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- names are all that is asked for


# ---- who is there


async def test_what_carries_the_bytes_is_found_below_tls(ends: Ends) -> None:
    assert transport.transport_of(ends.ours) is ends.carrier
    assert transport.socket_of(ends.ours) is getattr(ends.carrier, "socket", None)


async def test_descriptor_is_the_sockets_and_memory_has_none(ends: Ends) -> None:
    if isinstance(ends.client, trio.SocketStream):
        number = transport.descriptor(ends.ours)
        assert number is not None
        os.write(number, b"x")
        assert await ends.client.receive_some() == b"x"
    else:
        assert transport.descriptor(ends.ours) is None


async def test_addresses_are_the_clients_and_our_own(ends: Ends) -> None:
    if isinstance(ends.client, trio.SocketStream):
        theirs = ends.client.socket
        assert transport.addresses(ends.ours) == (theirs.getsockname(), theirs.getpeername())
    else:
        assert transport.addresses(ends.ours) == (ends.client.local_address, ends.client.remote_address)


async def test_addresses_of_ipv6_are_host_and_port() -> None:
    try:
        client, ours = await over_sockets("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    port, our_port = (stream.socket.getsockname()[1] for stream in (client, ours))
    assert transport.addresses(ours) == (("::1", port), ("::1", our_port))
    await client.aclose()
    await ours.aclose()


async def test_unix_sockets_and_plain_streams_have_no_addresses(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        client = await trio.open_unix_socket(path)
        accepted, _ = listening.accept()
    ours = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
    assert transport.addresses(ours) == (None, None)
    assert transport.descriptor(ours) == accepted.fileno()
    await client.aclose()
    await ours.aclose()
    assert transport.addresses(trio.testing.memory_stream_pair()[0]) == (None, None)


async def test_client_that_has_left_has_no_address() -> None:
    client, ours = await over_sockets()
    transport.abort(client)
    with trio.fail_after(5):
        with contextlib.suppress(trio.BrokenResourceError):
            await ours.receive_some()
    with pytest.raises(OSError, match="ot connected"):
        transport.addresses(ours)
    await ours.aclose()


# ---- half-closing


async def read_to_the_end(stream: Any) -> bytes:
    said = b""
    with trio.fail_after(5):
        while data := await stream.receive_some():
            said += data
    return said


async def test_half_close_says_that_nothing_more_comes_and_reads_on(ends: Ends) -> None:
    await ends.carrier.send_all(b"last")
    await transport.half_close(ends.ours)
    assert await read_to_the_end(ends.client) == b"last"  # and no goodbye of TLS
    await ends.client.send_all(b"more")
    assert await ends.carrier.receive_some() == b"more"
    await transport.half_close(ends.ours)  # again is nothing


async def test_half_close_needs_no_waiting_where_there_is_a_socket(ends: Ends) -> None:
    await ends.carrier.send_all(b"last")
    at_once = transport.half_close_at_once(ends.ours)
    assert at_once == isinstance(ends.client, trio.SocketStream)
    if at_once:
        assert await read_to_the_end(ends.client) == b"last"
        await ends.client.send_all(b"more")
        assert await ends.carrier.receive_some() == b"more"
    else:
        await ends.carrier.send_all(b"!")  # nothing has happened
        assert await ends.client.receive_some() == b"last!"


async def test_half_close_of_what_is_over_is_nothing(ends: Ends) -> None:
    transport.close(ends.ours)
    await transport.half_close(ends.ours)
    assert transport.half_close_at_once(ends.ours) == isinstance(ends.client, trio.SocketStream)


async def test_half_close_to_a_client_that_has_left_is_nothing(ends: Ends) -> None:
    transport.abort(ends.client)
    with contextlib.suppress(trio.BrokenResourceError):
        await ends.carrier.receive_some()
    transport.half_close_at_once(ends.ours)
    await transport.half_close(ends.ours)


async def test_half_close_behind_a_write_that_waits_is_nothing(ends: Ends, nursery: trio.Nursery) -> None:
    nursery.start_soon(ends.carrier.send_all, bytes(50_000_000))
    await trio.sleep(0.01)
    await transport.half_close(ends.ours)
    assert await ends.client.receive_some(1) == b"\0"
    nursery.cancel_scope.cancel()


# ---- closing


async def test_close_delivers_what_was_written_and_ends_both_directions(ends: Ends) -> None:
    await ends.carrier.send_all(b"last")
    transport.close(ends.ours)
    transport.close(ends.ours)
    assert await read_to_the_end(ends.client) == b"last"
    with pytest.raises(trio.ClosedResourceError):
        await ends.carrier.receive_some()


async def test_close_wakes_who_reads(ends: Ends, nursery: trio.Nursery) -> None:
    woken = trio.Event()

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ends.carrier.receive_some()
        woken.set()

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    transport.close(ends.ours)
    with trio.fail_after(5):
        await woken.wait()


async def test_abort_cannot_be_taken_for_an_end(ends: Ends) -> None:
    transport.abort(ends.ours)
    transport.abort(ends.ours)
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
        await ends.client.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await ends.carrier.receive_some()


async def test_abort_drops_what_the_kernel_still_holds() -> None:
    client, ours = await over_sockets()
    with trio.move_on_after(0.01):
        await ours.send_all(bytes(50_000_000))
    transport.abort(ours)
    with pytest.raises(trio.BrokenResourceError):
        await read_to_the_end(client)
    await client.aclose()


async def test_abort_after_close_leaves_the_end_clean(ends: Ends) -> None:
    transport.close(ends.ours)
    transport.abort(ends.ours)
    assert await read_to_the_end(ends.client) == b""


@pytest.mark.parametrize("over", [transport.close, transport.abort])
async def test_trios_own_streams_in_memory_are_closed_both_ways(over: Any) -> None:
    client, ours = trio.testing.memory_stream_pair()
    await ours.send_all(b"last")
    over(ours)
    over(ours)
    assert await client.receive_some() == b"last"
    assert await client.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")


# ---- hanging up


async def leave_by_fin(stream: Any) -> None:
    await stream.aclose()


async def leave_by_half_close(stream: Any) -> None:
    await stream.send_eof()


async def leave_by_reset(stream: Any) -> None:
    transport.abort(stream)


@pytest.mark.parametrize("leave", [leave_by_fin, leave_by_half_close, leave_by_reset])
@pytest.mark.parametrize("ends", ["socket", "TLS over a socket"], indirect=True)
async def test_hangup_is_seen_behind_bytes_that_nobody_has_read(ends: Ends, leave: Any) -> None:
    before = descriptors()
    watch = transport.HangupWatch(ends.ours)
    await ends.client.send_all(b"x" * 1000)
    with trio.move_on_after(0.02) as clock:
        await watch.wait()
    assert clock.cancelled_caught, "bytes alone are no hangup"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.deadline = trio.current_time() + 5
        await leave(ends.client)
    assert not nursery.cancel_scope.cancelled_caught
    watch.close()
    assert not descriptors() - before


@pytest.mark.parametrize("ends", ["socket"], indirect=True)
async def test_watch_that_is_closed_lets_its_waiter_go(ends: Ends) -> None:
    watch = transport.HangupWatch(ends.ours)
    with trio.fail_after(5), pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.wait)
            await trio.testing.wait_all_tasks_blocked()
            watch.close()
    watch.close()  # again is nothing


@pytest.mark.parametrize("ends", ["memory", "TLS in memory"], indirect=True)
async def test_without_a_socket_the_hangup_is_seen_when_reading_goes_on(
    ends: Ends, autojump_clock: trio.testing.MockClock
) -> None:
    await ends.client.aclose()
    with trio.move_on_after(1000) as clock:
        await transport.HangupWatch(ends.ours).wait()
    assert clock.cancelled_caught
    assert await ends.carrier.receive_some() == b""


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let the process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("ends", ["socket"], indirect=True)
async def test_out_of_descriptors_the_hangup_is_seen_when_reading_goes_on(ends: Ends) -> None:
    await ends.client.aclose()
    with no_descriptors(), trio.move_on_after(0.05) as clock:
        await transport.HangupWatch(ends.ours).wait()
    assert clock.cancelled_caught
    assert await ends.carrier.receive_some() == b""
