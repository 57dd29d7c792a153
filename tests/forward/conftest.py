"""The gateway between scripted clients and scripted backends, in memory and over sockets."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.config import Service, Settings

Make = Callable[..., Settings]


@pytest.fixture
def settings() -> Make:
    """Make settings with one service, at ``service1:8001``; the service's own settings as ``service=``."""

    def make(*, service: dict[str, Any] | None = None, **changes: Any) -> Settings:
        timeout = {"timeout": changes["timeout"]} if "timeout" in changes else {}
        one = Service(name="service1", host="service1", port=8001, **timeout | (service or {}))
        return Settings(services=(one,), **changes)

    return make
