import pytest

from gateway.testing.plugin import each_network, network

__all__ = ["each_network", "network"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A requirement that a test shows has a name: the table of requirements is made from these."""
    for item in items:
        for mark in item.iter_markers("requirement"):
            if not mark.args or mark.kwargs or not all(isinstance(name, str) and name for name in mark.args):
                raise pytest.UsageError(f"{item.nodeid}: write requirement with its name, e.g. requirement('FR-001')")
