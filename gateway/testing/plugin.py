"""Fixtures for pytest, thin: what they give is made by the other modules and can be made without pytest.

What never lives here: behaviour. pytest-trio gives ``autojump_clock``; a test that takes it beside these runs in
virtual time.
"""

import pytest

from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork


@pytest.fixture
def network() -> MemoryNetwork:
    """Give an empty network in memory."""
    return MemoryNetwork()


@pytest.fixture(params=[MemoryNetwork, SocketNetwork], ids=["memory", "sockets"])
def each_network(request: pytest.FixtureRequest) -> MemoryNetwork | SocketNetwork:
    """Run the test twice: in memory and over real sockets, where only real time passes."""
    kind: type[MemoryNetwork | SocketNetwork] = request.param
    return kind()
