"""Two composed gateways behind HAProxy: they are restarted one after the other, and nobody notices.

Skipped but in ``nox -s containers``. ``GATEWAY_TEST_ROLLING`` says for how many seconds the load goes on.
"""

import csv
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..test_rolling import SCRIPT, SECONDS, assert_none_lost, load  # noqa: TID252 - as one imports from a test
from .conftest import Compose, Engine, eventually, first_answer

GATEWAYS = ("gateway", "gateway2")


class Balanced:
    """The composed gateways, and HAProxy before them."""

    def __init__(self, compose: Compose, port: int) -> None:
        self.compose = compose
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def states(self) -> dict[str, str]:
        """Of each gateway, as HAProxy has it."""
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = self.compose.engine.inspect(self.compose.container("balancer"), networks)
        lines = httpx.get(f"http://{address}:8404/;csv").text.removeprefix("# ").splitlines()
        return {row["svname"]: row["status"] for row in csv.DictReader(lines) if row["pxname"] == "gateways"}

    def until(self, gateway: str, state: str) -> None:
        """Wait until HAProxy has it so."""
        eventually(lambda: self.states()[gateway].startswith(state), within=60, what=f"{gateway} is {state}")


@pytest.fixture
def balanced(engine: Engine, images: float) -> Iterator[Balanced]:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not there (apt-get install it)")
    compose = Compose(engine, "compose.yaml", "compose.replicas.yaml")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    compose.variables["BALANCER"] = f"127.0.0.1:{port}"
    try:
        compose("up", "--detach", "--no-build")
        balanced = Balanced(compose, port)
        first_answer(f"{balanced.url}/api/service1/health", within=60)
        for gateway in GATEWAYS:
            balanced.until(gateway, "UP")
        yield balanced
    finally:
        compose.down()


def test_gateways_that_are_restarted_in_turn_under_load_lose_no_request(tmp_path: Path, balanced: Balanced) -> None:
    engine, restarts = balanced.compose.engine, 0
    with load(tmp_path, balanced.port, SECONDS, SCRIPT.replace("/orders", "/echo")) as wrk:
        while not wrk.over.is_set() or restarts < len(GATEWAYS):
            gateway = GATEWAYS[restarts % 2]
            container = balanced.compose.container(gateway)
            engine("podman", "stop", "--time", "40", container)
            assert engine.inspect(container, "{{.State.ExitCode}}") == "0"
            engine("podman", "start", container)
            balanced.until(gateway, "UP")
            restarts += 1
            time.sleep(0.5)
    assert_none_lost(wrk.told, f"{restarts} composed gateways restarted behind HAProxy")
