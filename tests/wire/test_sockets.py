"""Every case before this gateway as a process of its own, over TCP: one process for all of them."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from gateway.testing.processes import GatewayProcess

from .case import BOTH
from .cases import ALL
from .conftest import MAX_BODY
from .contract import contract
from .run import run_cases, running_backend

ROOM = 40_000
"""kB that the process may grow by at most, whatever the size of the bodies."""


@pytest.fixture(scope="module")
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        yield sock


@pytest.fixture(scope="module")
def process(listening: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    host, port = listening.getsockname()
    variables = {
        "GATEWAY_SERVICES": "wire",
        "GATEWAY_MAX_BODY_SIZE": str(MAX_BODY),
        "GATEWAY_HEALTH_TIMEOUT": "100ms",
        "WIRE_URL": f"http://{host}:{port}",
        "WIRE_PREFIX": "/w",
        "WIRE_UPSTREAM_PREFIX": "/w",
    }
    with GatewayProcess(variables, tmp_path_factory.mktemp("wire")) as gateway:
        # Its first check of the backend's health is answered by nobody yet: the connection waits in the backlog.
        gateway.until("the gateway is running")
        yield gateway
        assert gateway.stop() == 0
        assert gateway.err == ""
        assert not [line for line in gateway.log if line["level"] in ("ERROR", "CRITICAL")]


def peak_memory(process: GatewayProcess) -> int:
    """The most that the process has ever held, in kB."""
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize("slow", [False, True], ids=["small", "large"])
async def test_every_case_over_tcp(
    process: GatewayProcess,
    listening: socket.socket,
    protocol: str,
    slow: bool,  # noqa: FBT001 - a column of a table
) -> None:
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
    cases = [case for case in ALL if case.slow is slow and not case.fails(protocol)]
    before = peak_memory(process)
    failed = []
    async with running_backend(listener) as backend:
        async for verdict in run_cases(cases, protocol, ("127.0.0.1", process.port), backend, settle=0.002):
            verdict.faults += contract(verdict.case, verdict.play)
            failed += [str(verdict)] if verdict.faults else []
    assert not failed, "\n".join(failed)
    if slow:
        assert peak_memory(process) - before < ROOM
