"""What the transport's tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def count_sockets() -> Callable[[], int]:
    """Counts this process's sockets."""

    def count() -> int:
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                links.append(str(entry.readlink()))
            except OSError:
                continue  # the descriptor that lists them
        return sum(link.startswith("socket:") for link in links)

    return count
