from collections.abc import AsyncIterator

import pytest

from gateway.testing.network import MemoryNetwork
from gateway.testing.sockets import SocketNetwork


@pytest.fixture
def network() -> MemoryNetwork:
    """Give an empty network in memory, on whichever clock the test asks for."""
    return MemoryNetwork()


@pytest.fixture(params=[MemoryNetwork, SocketNetwork], ids=["memory", "sockets"])
async def each_network(request: pytest.FixtureRequest) -> AsyncIterator[MemoryNetwork | SocketNetwork]:
    """Run the test twice: in memory and over real sockets, where only real time passes."""
    network: MemoryNetwork | SocketNetwork = request.param()
    yield network
    if isinstance(network, SocketNetwork):
        network.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A requirement that a test shows has a name: the table of requirements is made from these."""
    for item in items:
        for mark in item.iter_markers("requirement"):
            if not mark.args or mark.kwargs or not all(isinstance(name, str) and name for name in mark.args):
                raise pytest.UsageError(f"{item.nodeid}: write requirement with its name, e.g. requirement('FR-001')")
