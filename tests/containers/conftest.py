"""A container engine of its own for the tests that build and run the images, apart from whatever the machine has."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BASE = "localhost/python:3.11-slim-bookworm"
"""Taken by the Dockerfile for ``python:3.11-slim-bookworm``, as long as nothing is pulled."""

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
    """The engine with nothing in it but the base image, which stays for the next time: it takes a minute to make."""
    if not os.environ.get("GATEWAY_TEST_CONTAINERS"):
        pytest.skip("images are built and run by `nox -s containers`")
    missing = [name for name in ("podman", "debootstrap", "podman-compose") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'podman'}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    engine = Engine(settings(cache / "api-gateway" / "containers"))
    if engine("podman", "images", "--quiet", BASE) == "":
        engine(str(Path(__file__).parent / "base.sh"), BASE)
    if engine("podman", "run", "--rm", BASE, "python3", "-c", "print('runs')", check=False) != "runs":
        pytest.skip("podman cannot run a container on this machine")
    yield engine
    empty(engine)


def empty(engine: Engine) -> None:
    """Remove every container, and every image but the base."""
    engine("podman", "pod", "rm", "--all", "--force")
    engine("podman", "rm", "--all", "--force")
    keep = engine.inspect(BASE, "{{.Id}}")
    images = {
        line.removeprefix("sha256:") for line in engine("podman", "images", "--all", "--quiet", "--no-trunc").split()
    }
    for image in images - {keep}:
        engine("podman", "rmi", "--force", image, check=False)  # gone already where it was another's parent
