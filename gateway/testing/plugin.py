"""Fixtures for pytest, thin: what they give is made by the other modules and can be made without pytest.

What never lives here: behaviour. pytest-trio gives ``autojump_clock``; a test that takes it beside these runs in
virtual time.
"""

import pytest

from gateway.testing.network import MemoryNetwork


@pytest.fixture
def network() -> MemoryNetwork:
    """Give an empty network in memory."""
    return MemoryNetwork()
