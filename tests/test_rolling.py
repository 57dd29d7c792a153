"""No request is lost while the gateway is replaced under load.

Neither the load balancer nor the client is ours: HAProxy and wrk, as Debian has them. ``GATEWAY_TEST_ROLLING`` says for
how many seconds the load goes on (``nox -s rolling``).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest

from gateway.testing.processes import PATIENCE, GatewayProcess, free_port

SECONDS = float(os.environ.get("GATEWAY_TEST_ROLLING", "5"))
CONNECTIONS = 32


def needs(*tools: str) -> pytest.MarkDecorator:
    # Debian keeps HAProxy where a user's PATH does not look.
    missing = [tool for tool in tools if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    return pytest.mark.skipif(bool(missing), reason=f"not there: {', '.join(missing)} (apt-get install it)")


BACKEND = """
import asyncio, re, sys

ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"

class Backend(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\\r\\n\\r\\n")) >= 0:
            length = re.search(rb"(?i)content-length: *([0-9]+)", self.data[:end])
            end += 4 + int(length[1] if length else 0)
            if len(self.data) < end:
                return
            self.data = self.data[end:]
            self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""

SCRIPT = """
local n = 0
request = function()
  n = n + 1
  if n % 3 == 0 then
    return wrk.format("POST", "/api/service1/orders", nil, "an order that nobody may send twice")
  end
  return wrk.format("GET", "/api/service1/orders?n=" .. n)
end
done = function(summary, latency, requests)
  local e = summary.errors
  local form = 'TOLD {"requests": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n'
  io.write(string.format(form, summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
"""
"""wrk's: two GETs, then a POST. A POST that found its connection dead is lost: nobody may send it again."""

# `timeout check`, because without it a check may take no longer than `inter`, and the one server that is left would be
# taken for dead whenever the machine is busy for 100 ms.
HAPROXY = """
global
    stats socket {folder}/haproxy.sock level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout check 10s
    retries 3
    option redispatch
    retry-on conn-failure
frontend public
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 100ms fall 1 rise 1
    server a 127.0.0.1:{a}
    server b 127.0.0.1:{b}
"""


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603 - a test's own
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def backend() -> Iterator[str]:
    """A service that answers at once; its URL."""
    port = free_port()
    with started(sys.executable, "-I", "-c", BACKEND, str(port)):
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


def wait_for_port(port: int) -> None:
    deadline = monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except ConnectionRefusedError:
            assert monotonic() < deadline
            sleep(0.02)
        else:
            return


@dataclass
class Load:
    """What wrk has seen."""

    over: threading.Event
    told: dict[str, int]


@contextmanager
def load(folder: Path, port: int, seconds: float, requests: str = SCRIPT) -> Iterator[Load]:
    """Load until ``seconds`` have passed; at the end of the block its figures are there."""
    script = folder / "load.lua"
    script.write_text(requests)
    command = [f"--connections={CONNECTIONS}", f"--duration={seconds:.0f}s", "--timeout=20s", f"--script={script}"]
    state = Load(threading.Event(), {})
    with started("wrk", "--threads=1", *command, f"http://127.0.0.1:{port}") as process:
        output: list[str] = []

        def read() -> None:
            output.append(process.communicate()[0])
            state.over.set()

        reader = threading.Thread(target=read)
        reader.start()
        yield state
        reader.join()
    lines = [line for line in "".join(output).splitlines() if line.startswith("TOLD ")]
    assert lines, output
    state.told = json.loads(lines[0].removeprefix("TOLD "))


def assert_none_lost(told: dict[str, int], what: str) -> None:
    sys.stdout.write(f"\n{what} in {SECONDS:.0f} s: {told}\n")  # pytest shows it where it is asked to (-s)
    lost = {name: count for name, count in told.items() if name != "requests"}
    assert lost == dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0)
    assert told["requests"] > 50 * SECONDS


class Balancer:
    """HAProxy before two gateways."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.port = free_port()
        self.socket = folder / "haproxy.sock"
        self.config = folder / "haproxy.cfg"
        self.config.write_text(HAPROXY.format(folder=folder, port=self.port, **ports))

    def states(self) -> dict[str, str]:
        """Of each server, as the health check has it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))
            client.sendall(b"show stat gateways 4 -1\n")
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        names, *rows = [line.split(",") for line in text.splitlines() if line]
        return {row[names.index("svname")]: row[names.index("status")] for row in rows}

    def until(self, name: str, state: str) -> None:
        deadline = monotonic() + PATIENCE
        while not (self.socket.exists() and self.states()[name].startswith(state)):
            assert monotonic() < deadline, self.states()
            sleep(0.02)


@needs("haproxy", "wrk")
def test_rolling_restart_behind_haproxy_loses_no_request(tmp_path: Path, backend: str) -> None:
    ports = {"a": free_port(), "b": free_port()}
    balancer = Balancer(tmp_path, ports)

    def start(name: str) -> GatewayProcess:
        variables = {
            "SERVICE1_URL": backend,
            "GATEWAY_PORT": str(ports[name]),
            "GATEWAY_LOG_LEVEL": "WARNING",
            "GATEWAY_DRAIN_DELAY": "1s",  # ten health checks
        }
        return GatewayProcess(variables, tmp_path)

    gateways = {name: start(name) for name in ports}
    restarts = 0
    haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
    try:
        with started(haproxy, "-db", "-f", str(balancer.config)):
            for name, port in ports.items():
                wait_for_port(port)  # before its first check HAProxy takes a server for UP
                balancer.until(name, "UP")
            with load(tmp_path, balancer.port, SECONDS) as wrk:
                while not wrk.over.is_set() or restarts < 2:
                    name = "ab"[restarts % 2]
                    gateways[name].signal(signal.SIGTERM)
                    balancer.until(name, "DOWN")
                    assert gateways[name].process.poll() is None  # the delay was long enough for the health check
                    assert gateways[name].wait() == 0
                    gateways[name] = start(name)
                    balancer.until(name, "UP")
                    restarts += 1
    finally:
        for gateway in gateways.values():
            gateway.__exit__(None, None, None)
    assert_none_lost(wrk.told, f"{restarts} instances restarted behind HAProxy")
    assert restarts >= 2


@needs("wrk")
def test_workers_that_are_replaced_under_load_lose_no_request(tmp_path: Path, backend: str) -> None:
    with GatewayProcess({"SERVICE1_URL": backend, "GATEWAY_WORKERS": "2"}, tmp_path) as gateway:
        gateway.until("a worker is ready", 2)
        rounds = 0
        with load(tmp_path, gateway.port, SECONDS) as wrk:
            while not wrk.over.is_set():
                rounds += 1
                gateway.signal(signal.SIGHUP)
                gateway.until("all workers are replaced", rounds)
        assert_none_lost(wrk.told, f"{rounds} times both workers replaced")
        assert gateway.stop() == 0
