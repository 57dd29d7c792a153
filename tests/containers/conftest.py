"""A container engine of its own for the tests that build and run the images, apart from whatever the machine has."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
BASE = "localhost/python:3.11-slim-bookworm"
STANDINS = {
    BASE: ("python3", "python3-venv"),
    "localhost/redis:7-bookworm": ("redis-server",),
    "localhost/haproxy:2.8": ("haproxy",),
}
"""Each is taken for the official image of its name, as long as nothing is pulled; the packages that it is made of."""

CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
[network]
network_backend = "netavark"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{home}/storage"
runroot = "{home}/run"
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """Podman, with storage and settings of its own."""

    environment: Mapping[str, str]

    def __call__(
        self, command: str, *arguments: str, check: bool = True, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run podman or podman-compose, return what it prints; its own words come with the failure."""
        result = subprocess.run(  # noqa: S603 - every argument is written in these tests
            [command, *arguments],
            cwd=ROOT,
            env={**self.environment, **(variables or {})},
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0 or not check, f"{command} {' '.join(arguments)}:\n{result.stdout}{result.stderr}"
        return result.stdout.strip()

    def inspect(self, name: str, template: str) -> str:
        return self("podman", "inspect", "--format", template, name)


def settings(home: Path) -> dict[str, str]:
    """Write the engine's settings under ``home`` and return the environment that points to them."""
    home.mkdir(parents=True, exist_ok=True)
    runtime = next(filter(shutil.which, ("crun", "runc")), "crun")
    (home / "containers.conf").write_text(CONTAINERS_CONF.format(runtime=runtime))
    (home / "storage.conf").write_text(STORAGE_CONF.format(home=home))
    return {
        **os.environ,
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine with nothing in it but stand-ins for official images, which stay: each takes a minute to make."""
    if not os.environ.get("GATEWAY_TEST_CONTAINERS"):
        pytest.skip("images are built and run by `nox -s containers`")
    missing = [name for name in ("podman", "debootstrap", "podman-compose") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'podman'}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    engine = Engine(settings(cache / "api-gateway" / "containers"))
    for name, packages in STANDINS.items():
        if engine("podman", "images", "--quiet", name) == "":
            try:
                engine(str(Path(__file__).parent / "base.sh"), name, *packages)
            except AssertionError as error:
                pytest.skip(f"no stand-in for {name} can be made here: {str(error)[-300:]}")
    if engine("podman", "run", "--rm", BASE, "python3", "-c", "print('runs')", check=False) != "runs":
        pytest.skip("podman cannot run a container on this machine")
    yield engine
    empty(engine)


def empty(engine: Engine) -> None:
    """Remove every container and volume, and every image but the stand-ins."""
    engine("podman", "pod", "rm", "--all", "--force")
    engine("podman", "rm", "--all", "--force")
    engine("podman", "volume", "prune", "--force")
    keep = {engine.inspect(name, "{{.Id}}") for name in STANDINS}
    images = {
        line.removeprefix("sha256:") for line in engine("podman", "images", "--all", "--quiet", "--no-trunc").split()
    }
    for image in images - keep:
        engine("podman", "rmi", "--force", image, check=False)  # gone already where it was another's parent


@pytest.fixture(scope="session")
def images(engine: Engine) -> float:
    """Build every image, and tell how many seconds those that the compose file needs have taken, from none."""
    empty(engine)
    # Docker's own image format: the other one has no HEALTHCHECK.
    build = ("podman-compose", "--podman-build-args", "--format docker --pull=never", "--parallel", "2")
    started = time.monotonic()
    engine(*build, "-f", "containers/compose.yaml", "build", "gateway", "service1")
    # Not beside those, whose layers it shares.
    engine(*build, "-f", "containers/compose.yaml", "build", "worker")
    seconds = time.monotonic() - started
    engine(*build, "-f", "containers/compose.yaml", "-f", "containers/compose.faults.yaml", "build", "faults")
    return seconds


class Compose:
    """A compose project, named apart from whatever the machine runs. Its gateway is published on a free port."""

    def __init__(self, engine: Engine, *files: str) -> None:
        self.engine = engine
        self._files = [word for file in files for word in ("-f", f"containers/{file}")]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.published = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{self.published}"
        self.variables = {"PUBLISH": self.published}

    def __call__(self, command: str, *arguments: str, check: bool = True) -> str:
        """Run podman-compose."""
        words = (*self._files, "-p", "gateway-tests", command, *arguments)
        return self.engine("podman-compose", *words, check=check, variables=self.variables)

    def container(self, service: str, number: int = 1) -> str:
        """The name of its container."""
        return f"gateway-tests_{service}_{number}"

    def down(self) -> None:
        """Remove all of it, what it has stored included."""
        self("down", "--volumes", check=False)


def first_answer(url: str, *, within: float) -> None:
    """Wait for a good answer."""
    eventually(lambda: httpx.get(url).is_success, within=within, what=url)


def eventually(holds: Callable[[], object], *, within: float, what: str) -> None:
    """Wait until it holds; a failing connection is a no."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if holds():
                return
        time.sleep(0.05)
    pytest.fail(f"not in {within} s: {what}")
