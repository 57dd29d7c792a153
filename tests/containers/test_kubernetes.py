"""The Deployments of containers/kubernetes, run for real by ``podman kube play``. Skipped but in ``nox -s containers``.

Podman is no cluster. It knows Deployments, of which it runs one replica, and ConfigMaps; not Services, so that names
are those of pods here; and no probe over HTTP, so that these tests ask in its place. The rest is for test_manifests.py.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from .conftest import ROOT, Engine, eventually, first_answer
from .kustomize import Manifest, render

NETWORK = "gateway-tests"
IMAGES = ("api-gateway", "api-gateway-service", "api-gateway-worker")
PARTS = ("gateway", "service1", "service2", "worker", "redis")


def as_podman_takes_it(overlay: str, **settings: str) -> list[Manifest]:
    """The overlay's Deployments and ConfigMaps; ``settings`` replace the gateway's own."""
    manifests = [
        manifest
        for manifest in render(ROOT / "containers/kubernetes/overlays" / overlay)
        if manifest["kind"] in {"ConfigMap", "Deployment"}
    ]
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            manifest["data"].update(settings if manifest["metadata"]["name"].startswith("gateway-") else {})
            for part in PARTS:
                manifest["data"] = {
                    name: value.replace(f"//{part}:", f"//{part}-pod-0:") for name, value in manifest["data"].items()
                }
        else:
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" in container.get(probe, {}):
                    del container[probe]
    return manifests


class Cluster:
    """What was played."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder

    def play(self, manifests: list[Manifest]) -> None:
        """Run them. What they name that runs already is replaced."""
        path = self._folder / "played.yaml"
        path.write_text(yaml.safe_dump_all(manifests, sort_keys=False))
        self.engine("podman", "kube", "play", "--replace", "--network", NETWORK, str(path))

    def podman(self, command: str, part: str, *options: str, check: bool = True) -> str:
        return self.engine("podman", command, *options, f"{part}-pod-0-{part}", check=check)

    def state(self, name: str, part: str = "gateway") -> str:
        """What podman says of the container."""
        return self.podman("inspect", part, "--format", f"{{{{.State.{name}}}}}")

    def url(self, part: str = "gateway", port: int = 8000) -> str:
        """Where the pod is, as the node would ask it."""
        pod = self.engine("podman", "pod", "inspect", "--format", "{{.InfraContainerID}}", f"{part}-pod-0")
        address = self.engine.inspect(pod, f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}')
        return f"http://{address}:{port}"

    def read(self, order_id: str, *, wait: float = 0) -> dict[str, Any]:
        answer = httpx.get(f"{self.url()}/api/service1/orders/{order_id}?wait={wait}", timeout=60)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def place(self, order_id: str) -> httpx.Response:
        items = [{"product_id": "P", "quantity": 1}]
        order = {"order_id": order_id, "customer_id": "C-1", "items": items, "total_amount": 9.5}
        return httpx.post(f"{self.url()}/api/service1/orders", json=order)


@pytest.fixture(scope="module")
def cluster(engine: Engine, images: float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for image in IMAGES:
        engine("podman", "tag", image, f"{image}:0.1.0")
    engine("podman", "network", "rm", "--force", NETWORK, check=False)  # of a run that was killed
    engine("podman", "network", "create", NETWORK)
    cluster = Cluster(engine, tmp_path_factory.mktemp("kubernetes"))
    started = time.monotonic()
    try:
        cluster.play(as_podman_takes_it("development"))
        for service in ("service1", "service2"):
            first_answer(f"{cluster.url()}/api/{service}/health", within=60)
        print(f"\nfirst answer after {time.monotonic() - started:.1f} s")  # noqa: T201 - the figure is what one runs this for
        yield cluster
    finally:
        engine("podman", "pod", "rm", "--all", "--force")
        engine("podman", "network", "rm", "--force", NETWORK)


def test_order_goes_through_the_gateway_and_the_worker_to_its_notification(cluster: Cluster) -> None:
    assert cluster.place("K-1").status_code == 202
    done = cluster.read("K-1", wait=30)
    assert done["status"] == "processed"
    note = httpx.get(f"{cluster.url()}/api/service2/notifications/{done['notification_id']}").json()
    assert note["message"] == "K-1: 1 items are on their way."


def test_what_the_probes_ask_is_answered_and_figures_are_on_the_admin_port(cluster: Cluster) -> None:
    assert [httpx.get(f"{cluster.url()}{path}").status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert "gateway_requests_total" in httpx.get(f"{cluster.url(port=9090)}/metrics").text
    for part in ("worker", "redis"):
        cluster.engine("podman", "healthcheck", "run", f"{part}-pod-0-{part}")


@pytest.mark.parametrize("part", PARTS)
def test_running_container_has_no_privilege(cluster: Cluster, part: str) -> None:
    status = cluster.engine("podman", "exec", f"{part}-pod-0-{part}", "cat", "/proc/1/status")
    told = dict(line.split(":\t", 1) for line in status.splitlines())
    assert told["Uid"].split() == (["999"] if part == "redis" else ["65532"]) * 4
    assert (told["CapEff"], told["CapBnd"], told["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert cluster.podman("inspect", part, "--format", "{{.HostConfig.ReadonlyRootfs}}") == "true"


def test_order_waits_for_a_worker_that_was_killed(cluster: Cluster) -> None:
    cluster.podman("kill", "worker")
    assert cluster.place("K-2").status_code == 202
    # It is up again by itself: a pod of a Deployment always is.
    cluster.podman("start", "worker")
    assert cluster.read("K-2", wait=60)["status"] == "processed"


def test_service_that_is_gone_is_an_explained_503_and_its_neighbour_is_served(cluster: Cluster) -> None:
    cluster.podman("stop", "service1", "--time", "30")
    refused = httpx.get(f"{cluster.url()}/api/service1/orders/K-1", timeout=10).json()
    assert refused["status_code"] in {503, 504}
    assert (refused["service"], refused["phase"]) == ("service1", "connect")
    assert httpx.get(f"{cluster.url()}/api/service2/health").status_code == 200
    cluster.podman("start", "service1")
    first_answer(f"{cluster.url()}/api/service1/health", within=30)
    assert cluster.read("K-1")["status"] == "processed"


def test_sigterm_ends_every_container_with_exit_code_0(cluster: Cluster) -> None:
    for part in PARTS:
        if part != "service2":  # the last test's gateway asks it
            cluster.podman("stop", part, "--time", "30")
            assert cluster.state("ExitCode", part) == "0"


def test_wrong_config_map_makes_the_pod_fail_with_the_gateways_own_list_of_faults(cluster: Cluster) -> None:
    wrong = {"GATEWAY_TIMEOUT": "soon", "GATEWAY_PORT": "99999", "SERVICE1_URL": "service1"}
    cluster.play([each for each in as_podman_takes_it("development", **wrong) if is_gateways(each)])
    # It is started again and again, as in a cluster; each time it says the same.
    eventually(
        lambda: cluster.podman("inspect", "gateway", "--format", "{{.State.ExitCode}}") == "1",
        within=30,
        what="it fails",
    )
    logs = cluster.engine("sh", "-c", "podman logs gateway-pod-0-gateway 2>&1")
    for name in wrong:
        assert name in logs
    cluster.podman("stop", "gateway", check=False)


def is_gateways(manifest: Manifest) -> bool:
    return bool(manifest["metadata"]["name"].startswith("gateway"))


def test_production_accepts_on_sigterm_for_its_delay_while_it_is_not_ready(cluster: Cluster) -> None:
    there = {"SERVICE1_URL": "http://service1-pod-0:8001", "SERVICE2_URL": "http://service2-pod-0:8002"}
    cluster.play([each for each in as_podman_takes_it("production", **there) if is_gateways(each)])
    url = cluster.url()
    first_answer(f"{url}/api/service2/health", within=60)
    # As the node does it; were it a mere signal, podman would start the container again when it has ended.
    stopping = Thread(target=cluster.podman, args=("stop", "gateway", "--time", "45"))
    stopping.start()
    eventually(lambda: httpx.get(f"{url}/readyz").status_code == 503, within=5, what="/readyz is 503")
    noticed = time.monotonic()
    while time.monotonic() - noticed < 5:
        assert httpx.get(f"{url}/api/service2/health").status_code == 200
        time.sleep(0.2)
    stopping.join()
    assert cluster.state("ExitCode") == "0"
