"""Every case before this gateway as a process of its own, over TCP: one process for all of them."""

from pathlib import Path

import trio

from gateway.testing.processes import GatewayProcess

from .case import Verdict
from .cases import ALL
from .conftest import MAX_BODY
from .run import run_cases, running_backend


async def test_every_case_over_tcp(tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address, port = listener.socket.getsockname()
    variables = {
        "WIRE_URL": f"http://{address}:{port}",
        "WIRE_PREFIX": "/w",
        "WIRE_UPSTREAM_PREFIX": "/w",
        "GATEWAY_SERVICES": "wire",
        "GATEWAY_MAX_BODY_SIZE": str(MAX_BODY),
    }
    verdicts: list[Verdict] = []
    async with running_backend(listener) as backend:
        with GatewayProcess(variables, tmp_path) as gateway:
            await trio.to_thread.run_sync(gateway.until, "the gateway is running")
            for protocol in ("1.1", "2"):
                verdicts += [each async for each in run_cases(ALL, protocol, ("127.0.0.1", gateway.port), backend)]
            assert await trio.to_thread.run_sync(gateway.stop) == 0
    surprises = [str(each) for each in verdicts if each.passed is each.case.fails(each.protocol)]
    assert not surprises, "\n".join(surprises)
