"""What the images are made of. Skipped but in ``nox -s containers``; the names say what is shown."""

import pytest

from .conftest import BASE, Engine, eventually

PROGRAMS = ("gcc", "cc", "make", "pip", "pip3", "uv", "hatchling", "git")
IMAGES = ("api-gateway", "api-gateway-service", "api-gateway-worker", "api-gateway-faults")
MOST_MEGABYTES = 120


@pytest.mark.parametrize("image", IMAGES)
def test_image_says_what_it_is_and_how_to_stop_it(engine: Engine, images: float, image: str) -> None:
    template = '{{.Config.User}} {{.Config.StopSignal}} {{index .Labels "org.opencontainers.image.title"}}'
    assert engine.inspect(image, template) in {f"65532:65532 SIGTERM {image}", f"65532:65532 15 {image}"}
    assert engine.inspect(image, "{{.HealthCheck.Test}}").startswith("[CMD ")
    for label in ("version", "licenses", "description"):
        assert engine.inspect(image, f'{{{{index .Labels "org.opencontainers.image.{label}"}}}}')


@pytest.mark.parametrize("image", IMAGES)
def test_image_is_little_more_than_its_base(engine: Engine, images: float, image: str) -> None:
    more = (int(engine.inspect(image, "{{.Size}}")) - int(engine.inspect(BASE, "{{.Size}}"))) / 1e6
    print(f"\n{image}: {more:.0f} MB above its base")  # noqa: T201 - the figure is what one runs this for
    assert 5 < more < MOST_MEGABYTES


@pytest.mark.parametrize(
    ("image", "wanted", "unwanted"),
    [
        ("api-gateway", "gateway", {"celery", "redis", "fixture_common", "service1.py"}),
        ("api-gateway-service", "service1.py", {"gateway"}),
        ("api-gateway-worker", "worker.py", {"gateway"}),
    ],
)
def test_image_holds_no_build_tools_and_nothing_of_the_others(
    engine: Engine, images: float, image: str, wanted: str, unwanted: set[str]
) -> None:
    search = f"for each in {' '.join(PROGRAMS)}; do command -v $each; done; ls /app/lib/python3*/site-packages"
    found = engine("podman", "run", "--rm", "--entrypoint", "sh", image, "-c", search).split()
    assert wanted in found
    assert not set(found) & {"pip", "setuptools", "hatchling", "pytest", *unwanted}
    assert not [line for line in found if line.startswith("/")]


@pytest.mark.parametrize(("image", "variables"), [
    ("api-gateway", ["GATEWAY_WORKERS=2", "SERVICE1_URL=http://none.invalid"]),
    ("api-gateway-service", ["PORT=8001"]),
])  # fmt: skip
def test_image_runs_without_any_place_to_write(engine: Engine, images: float, image: str, variables: list[str]) -> None:
    # Podman would give it a /tmp; Docker and Kubernetes do not.
    options = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", *(f"--env={each}" for each in variables)]
    name = engine("podman", "run", "--detach", *options, image)
    try:
        check = ("podman", "healthcheck", "run", name)
        eventually(lambda: engine(*check, check=False) == "", within=30, what="it is healthy")
        engine(*check)
        engine("podman", "stop", "--time", "30", name)
        assert engine.inspect(name, "{{.State.ExitCode}}") == "0"
    finally:
        engine("podman", "rm", "--force", name)
