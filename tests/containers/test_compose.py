"""The compose files, run for real. Skipped but in ``nox -s containers``; the names say what is shown."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from .conftest import Compose, Engine, eventually, first_answer

PARTS = ("gateway", "service1", "service2", "worker", "redis")


@dataclass(frozen=True, slots=True)
class Stack:
    """What compose.yaml has brought up."""

    compose: Compose
    seconds: float
    """From an engine without images to the first answer through the gateway."""

    def place(self, order_id: str) -> httpx.Response:
        items = [{"product_id": "P", "quantity": 1}]
        order = {"order_id": order_id, "customer_id": "C-1", "items": items, "total_amount": 9.5}
        return httpx.post(f"{self.compose.url}/api/service1/orders", json=order)

    def read(self, order_id: str, *, wait: float = 0) -> dict[str, Any]:
        answer = httpx.get(f"{self.compose.url}/api/service1/orders/{order_id}?wait={wait}", timeout=60)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def podman(self, command: str, service: str, *options: str) -> str:
        return self.compose.engine("podman", command, *options, self.compose.container(service))


@pytest.fixture(scope="module")
def stack(engine: Engine, images: float) -> Iterator[Stack]:
    compose = Compose(engine, "compose.yaml")
    started = time.monotonic()
    try:
        compose("up", "--detach", "--no-build")
        first_answer(f"{compose.url}/api/service1/health", within=60)
        seconds = time.monotonic() - started
        figures = f"images built in {images:.1f} s, first answer {seconds:.1f} s later"
        print(f"\n{figures}")  # noqa: T201 - the figure is what one runs this for
        # Podman's compose starts all at once, where Docker's waits until the services are healthy.
        first_answer(f"{compose.url}/api/service2/health", within=60)
        yield Stack(compose, images + seconds)
    finally:
        compose.down()


@pytest.mark.requirement("SC-006")
def test_first_answer_comes_within_three_minutes_of_an_empty_engine(stack: Stack) -> None:
    assert stack.seconds < 180


@pytest.mark.requirement("FR-010")
def test_order_goes_through_the_gateway_and_the_worker_to_its_notification(stack: Stack) -> None:
    placed = stack.place("A-1")
    assert (placed.status_code, placed.json()["status"]) == (202, "accepted")
    done = stack.read("A-1", wait=30)
    assert done["status"] == "processed"
    note = httpx.get(f"{stack.compose.url}/api/service2/notifications/{done['notification_id']}").json()
    assert note["message"] == "A-1: 1 items are on their way."


@pytest.mark.requirement("FR-010")
def test_notification_is_sent_through_the_gateway(stack: Stack) -> None:
    note = {"recipient": "a@example.com", "notification_type": "EMAIL", "message": "hello"}
    sent = httpx.post(f"{stack.compose.url}/api/service2/notifications/send", json=note)
    assert (sent.status_code, sent.json()["status"]) == (200, "sent")


def test_only_the_gateways_port_is_published(stack: Stack) -> None:
    ports = {part: stack.podman("port", part) for part in PARTS}
    assert ports == {**dict.fromkeys(PARTS, ""), "gateway": f"8000/tcp -> {stack.compose.published}"}


@pytest.mark.parametrize("part", PARTS)
def test_running_container_is_healthy_and_without_any_privilege(stack: Stack, part: str) -> None:
    stack.compose.engine("podman", "healthcheck", "run", stack.compose.container(part))
    status = stack.compose.engine("podman", "exec", stack.compose.container(part), "cat", "/proc/1/status")
    told = dict(line.split(":\t", 1) for line in status.splitlines())
    assert told["Uid"].split() == (["999"] if part == "redis" else ["65532"]) * 4
    assert (told["CapEff"], told["CapBnd"], told["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert stack.podman("inspect", part, "--format", "{{.HostConfig.ReadonlyRootfs}}") == "true"


def test_order_waits_for_a_worker_that_was_killed(stack: Stack) -> None:
    stack.podman("kill", "worker")
    assert stack.place("A-2").status_code == 202
    assert stack.read("A-2", wait=0.5)["status"] == "accepted"
    stack.podman("start", "worker")
    assert stack.read("A-2", wait=60)["status"] == "processed"


def test_killed_service_is_an_explained_503_its_neighbour_is_served_and_its_orders_survive(stack: Stack) -> None:
    stack.podman("kill", "service1")
    refused = httpx.get(f"{stack.compose.url}/api/service1/orders/A-1", timeout=10)
    told = refused.json()
    # Refused, or its name is gone, or packets to its address are lost.
    assert refused.status_code in {503, 504}
    assert (told["service"], told["phase"]) == ("service1", "connect")
    assert httpx.get(f"{stack.compose.url}/api/service2/health").status_code == 200
    stack.podman("start", "service1")
    first_answer(f"{stack.compose.url}/api/service1/health", within=30)
    assert stack.read("A-1")["status"] == "processed"


def test_redis_that_was_killed_is_service1s_own_503_within_two_seconds_and_forgets_nothing(stack: Stack) -> None:
    stack.podman("kill", "redis")
    started = time.monotonic()
    refused = stack.place("A-3")
    assert time.monotonic() - started < 2
    assert refused.status_code == 503
    assert refused.json()["message"].startswith("The queue ")
    stack.podman("start", "redis")
    eventually(lambda: stack.place("A-3").status_code == 202, within=30, what="orders are accepted again")
    assert stack.read("A-3", wait=60)["status"] == "processed"
    assert stack.read("A-1")["status"] == "processed"


def test_sigterm_ends_every_container_with_exit_code_0(stack: Stack) -> None:
    ends = {}
    for part in PARTS:
        started = time.monotonic()
        stack.podman("stop", part, "--time", "35")
        ends[part] = stack.podman("inspect", part, "--format", "{{.State.ExitCode}}")
        print(f"\n{part} ended in {time.monotonic() - started:.1f} s")  # noqa: T201 - the figure is what one runs this for
    assert ends == dict.fromkeys(PARTS, "0"), stack.compose.engine(
        "sh", "-c", f"podman logs --tail 40 {stack.compose.container('worker')} 2>&1"
    )


@pytest.fixture(scope="module")
def without_services(engine: Engine, images: float, stack: Stack) -> Iterator[Compose]:
    """The gateway and the faulty backend, and none of the services that the gateway is told of."""
    stack.compose.down()
    compose = Compose(engine, "compose.yaml", "compose.faults.yaml")
    try:
        compose("up", "--detach", "--no-build", "--no-deps", "faults")
        compose("up", "--detach", "--no-build", "--no-deps", "gateway")
        first_answer(f"{compose.url}/health", within=60)
        yield compose
    finally:
        compose.down()


def test_gateway_without_a_reachable_backend_starts_and_reports_it(without_services: Compose) -> None:
    def states() -> dict[str, str]:
        services = httpx.get(f"{without_services.url}/api/gateway/status").json()["services"]
        return {service["name"]: service["health"]["state"] for service in services}

    wanted = {"service1": "down", "service2": "down", "faults": "up"}
    eventually(lambda: states() == wanted, within=30, what=f"the status tells {wanted}")
    assert httpx.get(f"{without_services.url}/readyz").status_code == 200
    refused = httpx.get(f"{without_services.url}/api/service1/orders/A-1", timeout=10)
    assert (refused.status_code, refused.json()["phase"]) == (503, "connect")


def test_faulty_backend_is_added_by_its_variables_alone_and_its_fault_is_explained(without_services: Compose) -> None:
    told = httpx.get(f"{without_services.url}/api/faults/silent", timeout=20)
    assert (told.status_code, told.json()["service"], told.json()["phase"]) == (504, "faults", "first_byte")
