"""The gateway as a process: its log, its end, and the same app on stock Hypercorn: FR-009, SC-007."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.testing.backend import Backend, hang
from gateway.testing.sockets import SocketNetwork

from .conftest import http_client, url_of

LINE = {
    "timestamp",
    "level",
    "message",
    "request_id",
    "method",
    "path",
    "protocol",
    "client_ip",
    "target_service",
    "target_url",
    "status_code",
    "bytes_in",
    "bytes_out",
    "duration_ms",
    "timings_ms",
    "cause",
}
"""What every line of an exchange tells."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@dataclass
class Process:
    """A server that runs as a process of its own, and the log that it writes."""

    url: str
    handle: trio.Process
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exchanges(self) -> list[dict[str, Any]]:
        """The lines that tell of a request."""
        return [line for line in self.lines if "request_id" in line and "cause" in line]

    async def read(self, *, until: str) -> None:
        """Read the log up to this message."""
        assert self.handle.stdout is not None
        unread = b""
        while not self.lines or self.lines[-1]["message"] != until:
            while b"\n" not in unread:
                more = await self.handle.stdout.receive_some()
                assert more, f"the log ended before {until!r}: {self.lines}"
                unread += more
            line, _, unread = unread.partition(b"\n")
            self.lines.append(json.loads(line))

    async def terminate(self) -> int:
        """SIGTERM; read the log to its end and give the exit code."""
        self.handle.send_signal(signal.SIGTERM)
        await self.read(until="the gateway has stopped")
        return await self.handle.wait()


@asynccontextmanager
async def process(command: list[str], environ: Mapping[str, str], cwd: Path, port: int) -> AsyncIterator[Process]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "SERVICE"))}
    handle = await trio.lowlevel.open_process(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, cwd=cwd, env={**bare, **environ}
    )
    try:
        with trio.fail_after(20):
            running = Process(f"http://127.0.0.1:{port}", handle)
            await running.read(until="the gateway is running")
            yield running
    finally:
        handle.kill()
        with trio.CancelScope(shield=True):
            await handle.wait()
        assert handle.stdout is not None
        await handle.stdout.aclose()


@pytest.mark.requirement("FR-009", "SC-007")
async def test_process_logs_one_line_per_request_which_explains_it_and_ends_with_0(
    services: dict[str, str], sockets: SocketNetwork, tmp_path: Path
) -> None:
    port = free_port()
    async with Backend(sockets, "hangs", 80, hang()):
        environ = {
            **services,
            "SERVICE3_URL": url_of(sockets, "hangs"),
            "SERVICE3_TIMEOUT": "200ms",
            "SERVICE4_URL": "http://127.0.0.1:1",
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_HEALTH_TIMEOUT": "100ms",
        }
        async with process(["gateway", "serve"], environ, tmp_path, port) as gateway:
            async with http_client(gateway.url, headers={"X-Request-ID": "trace-42"}) as client:
                sent = await client.post("/api/service1/echo?token=secret", content=b"hello")
                for path in ("/health", "/nowhere", "/api/service3/x", "/api/service4/x"):
                    await client.get(path)
            assert await gateway.terminate() == 0
    forwarded, owned, lost, timed_out, refused = gateway.exchanges
    for line in gateway.exchanges:
        assert set(line) - {"phase", "error"} == LINE
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
        assert (line["request_id"], line["client_ip"], line["protocol"]) == ("trace-42", "127.0.0.1", "HTTP/1.1")
        assert sum(line["timings_ms"].values()) == pytest.approx(line["duration_ms"], abs=0.01)
        assert "secret" not in str(line)

    assert (forwarded["target_service"], forwarded["path"]) == ("service1", "/api/service1/echo")
    assert forwarded["target_url"] == services["SERVICE1_URL"] + "/api/echo"
    assert (forwarded["bytes_in"], forwarded["bytes_out"]) == (5, len(sent.content))
    assert (forwarded["cause"], forwarded["status_code"], forwarded["level"]) == ("ok", 200, "INFO")
    assert (owned["target_service"], owned["target_url"], owned["cause"]) == (None, None, "ok")
    assert (lost["status_code"], lost["cause"]) == (404, "no_route")

    # Enough to explain a failure: whose, which, where in its life, after how long, and why.
    assert (timed_out["status_code"], timed_out["cause"], timed_out["phase"]) == (504, "backend_timeout", "first_byte")
    assert (timed_out["level"], timed_out["target_service"]) == ("WARNING", "service3")
    assert timed_out["target_url"] == environ["SERVICE3_URL"] + "/api/x"
    assert timed_out["error"] == "the backend did not answer within 0.2 s"
    assert timed_out["timings_ms"]["first_byte"] == pytest.approx(200, abs=60)
    assert (refused["status_code"], refused["cause"], refused["phase"]) == (503, "connect_failed", "connect")
    assert "connection refused" in refused["error"]
    assert "127.0.0.1" in refused["error"]

    stopped = gateway.lines[-1]
    assert (stopped["message"], stopped["cut"]) == ("the gateway has stopped", 0)


async def test_stock_hypercorn_serves_the_same_app(services: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    command = ["hypercorn", "-k", "trio", "--bind", f"127.0.0.1:{port}", "gateway.app:create_app()"]
    environ = {**services, "SERVICE2_URL": "http://127.0.0.1:1", "GATEWAY_HEALTH_TIMEOUT": "100ms"}
    async with process(command, environ, tmp_path, port) as gateway:
        for http2 in (False, True):
            async with http_client(gateway.url, http2=http2) as client:
                assert (await client.get("/health")).json()["status"] == "healthy"
                told = (await client.post("/api/service1/echo/a%2Fb?x=%20", content=b"hello")).json()
                assert (told["method"], told["target"]) == ("POST", "/api/echo/a%2Fb?x=%20")
                missing = await client.get("/api/service2/x")
                assert (missing.status_code, missing.json()["error"]) == (503, "service_unavailable")
                assert len((await client.get("/api/service1/bytes/1000000")).content) == 1_000_000
        async with http_client(gateway.url) as client:
            # What it cannot do: tell an empty query from none.
            assert (await client.get(f"{gateway.url}/api/service1/echo?")).json()["target"] == "/api/echo"
        assert await gateway.terminate() == 0
    assert [line["cause"] for line in gateway.exchanges] == ["ok", "ok", "connect_failed", "ok"] * 2 + ["ok"]
