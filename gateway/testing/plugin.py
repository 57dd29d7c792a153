"""Fixtures for pytest, thin: what they give is made by the other modules and can be made without pytest.

What never lives here: behaviour. pytest-trio gives ``autojump_clock``; a test that takes it beside these runs in
virtual time.
"""

from collections.abc import AsyncIterator

import pytest

from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork


@pytest.fixture
def network() -> MemoryNetwork:
    """Give an empty network in memory."""
    return MemoryNetwork()


@pytest.fixture(params=[MemoryNetwork, SocketNetwork], ids=["memory", "sockets"])
async def each_network(request: pytest.FixtureRequest) -> AsyncIterator[MemoryNetwork | SocketNetwork]:
    """Run the test twice: in memory and over real sockets, where only real time passes."""
    network: MemoryNetwork | SocketNetwork = request.param()
    yield network
    if isinstance(network, SocketNetwork):
        network.close()
