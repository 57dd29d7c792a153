"""The compose file of docs/quickstart.md, run with the folder that it tells to make. Skipped as ``test_compose``."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from gateway.testing.processes import free_port

from ..docs.pages import blocks  # noqa: TID252 - as one imports from a test
from ..docs.shell import exchanged, shell, steps  # noqa: TID252 - as above
from .conftest import ROOT, Engine, first_answer

DOCUMENT = "docs/quickstart.md"


@pytest.fixture
def url(engine: Engine, images: float, tmp_path: Path) -> Iterator[str]:
    published = f"127.0.0.1:{free_port()}"
    with shell(tmp_path) as it:
        for command, _ in steps(blocks(DOCUMENT, "Two services of your own")[0]):
            if not command.startswith("uv "):
                it.type(command)
    (block,) = [each for each in blocks(DOCUMENT, "In containers") if each.language == "yaml"]
    compose = tmp_path / "shop/compose.yaml"
    text = exchanged(block.text, {"127.0.0.1:8000": published})
    assert yaml.safe_load(text)["services"]["gateway"]["build"]["context"] == ".."
    compose.write_text(text.replace("context: ..", f"context: {ROOT}"))
    try:
        engine("podman-compose", "-f", str(compose), "up", "--detach", "--no-build")
        yield f"http://{published}"
    finally:
        engine("podman-compose", "-f", str(compose), "down", "--volumes", check=False)


def test_two_services_of_ones_own_answer_behind_the_gateway(url: str) -> None:
    first_answer(f"{url}/api/orders/list.json", within=60)
    first_answer(f"{url}/api/stock/screws.json", within=60)
    assert httpx.get(f"{url}/api/orders/list.json").json() == {"orders": ["ORD-1"]}
    assert httpx.get(f"{url}/api/stock/screws.json").json() == {"screws": 12}
