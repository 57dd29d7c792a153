"""What is checked, and how: ``uv run nox`` does all that a change must pass, ``uv run nox -l`` is the menu.

No session has an environment of its own: the tools stand beside nox in the one root ``.venv``, pinned like the rest.
Arguments behind ``--`` go to the session's tool: ``uv run nox -s tests -- -k routing``.
"""

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports", "manifests", "tests"]

TOOLS = Path(sys.executable).parent


def run(session: nox.Session, tool: str, *arguments: str) -> None:
    """Run a tool of this environment, found beside the interpreter: nox may have been started without activating it."""
    path = os.pathsep.join([str(TOOLS), os.environ.get("PATH", os.defpath)])
    session.run(str(TOOLS / tool), *arguments, env={"PATH": path}, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, agreement of the pins, rules of the house."""
    run(session, "ruff", "check", *session.posargs)
    run(session, "ruff", "format", "--check", *session.posargs)
    run(session, "python", ".ci/pins.py", "check")
    run(session, "pytest", "--quiet", "tests/test_house.py")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    run(session, "mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Layers: imports point one way, policy does no I/O."""
    run(session, "lint-imports", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests with branch coverage; with arguments, those tests alone and no coverage."""
    coverage = ["--cov", "--cov-report=term", "--cov-fail-under=95"]
    run(session, "pytest", *(session.posargs or coverage))


@nox.session
def manifests(session: nox.Session) -> None:
    """What is deployed: the Dockerfile, the compose files and the Kubernetes overlays, each by its own checker."""
    session.run("uv", "sync", "--quiet", "--inexact", "--group", "containers", external=True)
    run(session, "hadolint", "containers/Dockerfile")
    compose = sorted(map(str, Path("containers").glob("compose*.yaml")))
    run(session, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *compose)
    for overlay in sorted(Path("containers/kubernetes/overlays").iterdir()):
        rendered = Path(session.create_tmp(), f"{overlay.name}.yaml")
        run(session, "python", "tests/containers/kustomize.py", str(overlay), str(rendered))
        run(session, "kubernetes-validate", "--strict", "--quiet", str(rendered))


@nox.session
def containers(session: nox.Session) -> None:
    """Build the images and run them, for real; needs root and podman, says so and skips without."""
    manifests(session)
    session.env["GATEWAY_TEST_CONTAINERS"] = "1"
    # Building takes longer than any other test may.
    patience = ("-o", "faulthandler_timeout=900")
    run(session, "pytest", "--capture=no", *patience, "tests/containers", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the gateway beside its backend, stock Hypercorn and peers; see python -m benchmarks --help."""
    session.run("uv", "sync", "--quiet", "--inexact", "--group", "bench", external=True)
    run(session, "python", "-m", "benchmarks", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Throw mutated HTTP at the server, 20,000 connections of it, then try the properties 50 times as often as usual.

    FUZZ_CASES and FUZZ_EXAMPLES change that, FUZZ_SEED makes it the same again.
    """
    defaults = {"FUZZ_CASES": "20000", "FUZZ_EXAMPLES": "50"}
    session.env.update({name: os.environ.get(name, value) for name, value in defaults.items()})
    # Nothing there may take long in real time but the whole.
    endless = ["-o", "faulthandler_timeout=0"]
    run(session, "pytest", *endless, *(session.posargs or ["tests/server/test_fuzz.py", "tests/properties"]))


@nox.session
def rolling(session: nox.Session) -> None:
    """Replace the gateway under load, 30 s behind HAProxy and 30 s by its own workers, and tell what was lost."""
    session.env.update({"GATEWAY_TEST_ROLLING": os.environ.get("GATEWAY_TEST_ROLLING", "30")})
    run(session, "pytest", "--capture=no", "tests/test_rolling.py", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """Play 100,000 events in memory and 10,000 over sockets with tight limits; then go through all interleavings."""
    command = ["python", "-m", "gateway.testing.storm", "--seed", "1093"]
    command += ["--faults", "fixtures.faults:BACKEND_FAULTS"]
    run(session, *command, "--events", "100000", *session.posargs)
    run(session, *command, "--events", "10000", "--sockets", "--descriptors", "1024", "--memory", "512")
    session.env.update({"INTERLEAVING_SEEDS": os.environ.get("INTERLEAVING_SEEDS", "3")})
    run(session, "pytest", "tests/testing/test_interleavings.py")


@nox.session
def soak(session: nox.Session) -> None:
    """Keep the gateway under steady load and every fault for 10 minutes, or SOAK_SECONDS: memory, descriptors, ends."""
    run(session, "python", "-m", "benchmarks", "soak", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Play the cases of tests/wire before nginx, HAProxy, Caddy, Envoy and the gateway; write docs/peers.md."""
    session.run("uv", "sync", "--quiet", "--inexact", "--group", "peers", external=True)
    run(session, "python", "-m", "fixtures.peers", *(session.posargs or ["--write"]))
    if not session.posargs:
        run(session, "python", "-m", "fixtures.faults", "--peers")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel twice to the same bytes, write its SBOM beside it into dist/, and test it as installed."""
    tests = session.posargs or ["tests/requirements", "tests/test_cli.py", "tests/test_demo.py", "tests/testing"]
    run(session, "python", ".ci/wheel.py", "dist", *tests)


@nox.session
def documents(session: nox.Session) -> None:
    """Run what the documents show, the FastAPI of docs/migrating.md too, which the ordinary tests do without."""
    session.run("uv", "sync", "--quiet", "--inexact", "--group", "bench", external=True)
    run(session, "pytest", *(session.posargs or ["tests/docs"]))


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve afresh and write every pin anew: pyproject.toml, requirements.lock, containers/*.txt."""
    run(session, "python", ".ci/pins.py", "renew")
