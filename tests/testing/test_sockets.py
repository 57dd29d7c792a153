import ssl
from collections.abc import Callable

import pytest
import trio
import trio.testing
import trustme

from gateway.testing import sockets
from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork

AnyNetwork = MemoryNetwork | SocketNetwork


async def connected(network: AnyNetwork) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    listener = network.listen("service1", 8001)
    client = await network.connect("service1", 8001)
    server = await listener.accept()
    await listener.aclose()
    return client, server


async def test_name_leads_to_a_real_socket_and_its_number_too() -> None:
    network = SocketNetwork()
    async with network.listen("service1", 8001) as listener:
        real = network.real_address("service1", 8001)
        assert real == listener.socket.getsockname()
        async with await network.connect(*real), await network.connect("service1", 8001, source="127.0.0.2") as second:
            assert second.socket.getpeername() == real
            assert second.socket.getsockname()[0] == "127.0.0.2"
    assert network.connects == [real, ("service1", 8001)]


async def test_port_zero_is_known_by_the_real_number() -> None:
    network = SocketNetwork()
    async with network.listen("service1") as listener:
        port = listener.socket.getsockname()[1]
        async with await network.connect("service1", port):
            assert repr(network) == f"<SocketNetwork: 1 listeners>\n  service1:{port} at 127.0.0.1:{port}"


async def test_other_names_are_never_resolved() -> None:
    with pytest.raises(ConnectionRefusedError):
        await SocketNetwork().connect("localhost", 80)


async def test_close_ends_and_reset_resets(each_network: AnyNetwork) -> None:
    for shut, seen in ((sockets.close, b""), (sockets.reset, None)):
        client, server = await connected(each_network)
        async with client:
            shut(server)
            shut(server)
            if seen is None:
                with pytest.raises(trio.BrokenResourceError):
                    await client.receive_some()
            else:
                assert await client.receive_some() == seen


@pytest.mark.parametrize("shut", [sockets.close, sockets.reset])
async def test_hangup_is_seen_behind_unread_bytes(
    each_network: AnyNetwork, shut: Callable[[trio.abc.Stream], None], nursery: trio.Nursery
) -> None:
    client, server = await connected(each_network)
    seen = trio.Event()

    async def watch() -> None:
        await sockets.wait_for_hangup(client)
        seen.set()

    async with client:
        await server.send_all(b"unread")
        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not seen.is_set()
        shut(server)
        with trio.fail_after(1):
            await seen.wait()
        assert await client.receive_some() == b"unread"


async def test_tls_stream_is_shut_by_its_carrier(each_network: AnyNetwork, nursery: trio.Nursery) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("service1").configure_cert(theirs)
    authority.configure_trust(ours)
    below, accepted = await connected(each_network)
    client = trio.SSLStream(below, ours, server_hostname="service1", https_compatible=True)
    server = trio.SSLStream(accepted, theirs, server_side=True, https_compatible=True)
    nursery.start_soon(client.send_all, b"x")
    assert await server.receive_some() == b"x"
    assert sockets.carrier(server) is accepted
    sockets.reset(server)
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    sockets.close(client)


async def test_addresses_are_told_as_long_as_they_are_known(each_network: AnyNetwork) -> None:
    client, server = await connected(each_network)
    assert sockets.addresses(client) == sockets.addresses(server)[::-1]
    sockets.reset(client)
    assert sockets.addresses(server)[0] is not None
    sockets.close(server)


async def test_foreign_stream_is_refused() -> None:
    foreign, _ = trio.testing.memory_stream_pair()
    with pytest.raises(TypeError, match="neither in memory nor a socket"):
        sockets.close(foreign)
