"""Every case before this gateway, in memory, on the virtual clock."""

import pytest
import trio

from gateway.config import Service, Settings
from gateway.testing.app import running_gateway
from gateway.testing.network import MemoryNetwork

from .backend import Backend
from .case import Case
from .conftest import MAX_BODY, table
from .contract import contract
from .run import run_case

SETTINGS = Settings(
    services=(Service(name="wire", host="wire", port=8001, prefix="/w", upstream_prefix="/w"),),
    max_body_size=MAX_BODY,
)


@pytest.mark.parametrize(("case", "protocol"), table(slow=False))
async def test_case(case: Case, protocol: str, network: MemoryNetwork, autojump_clock: trio.testing.MockClock) -> None:
    backend = Backend(network.listen("wire", 8001))
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.run)
        async with running_gateway(network, SETTINGS) as gateway:
            verdict = await run_case(
                case, lambda: network.connect(gateway.host, gateway.port), backend, protocol, patience=20
            )
            verdict.faults += contract(case, verdict.play)
        nursery.cancel_scope.cancel()
    assert verdict.passed, str(verdict)
