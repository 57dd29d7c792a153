"""docs/quickstart.md: what it tells to type is typed, and answers what it shows.

Its compose file is run in ``nox -s containers`` (``tests/containers/test_quickstart.py``).
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from gateway.config import load
from gateway.observe import Record

from .pages import blocks, page, tables
from .shell import play, shell

DOCUMENT = "docs/quickstart.md"
PLAYED = ("Two services of your own", "See it fail")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_two_services_are_served_by_typing_what_it_tells(tmp_path: Path) -> None:
    with shell(tmp_path, (8000, 8001, 8002)) as it:
        play(it, [block for heading in PLAYED for block in blocks(DOCUMENT, heading)])


def test_demo_is_started_as_the_readme_does_it() -> None:
    (block,) = blocks(DOCUMENT, "See it work")
    assert block in blocks("README.md", "Two commands") or block.text in page("README.md")


def test_readme_configures_services_by_what_it_tells_to_type(tmp_path: Path) -> None:
    with shell(tmp_path) as it:
        configure, serve = blocks("README.md", "Your services")[:2]
        play(it, [configure])
        assert "/api/order-desk  order-desk   http://localhost:8002/api" in it.type("uv run gateway routes")
    assert serve.text == "uv run gateway serve\n"


def test_each_field_of_the_line_is_explained_with_its_value_there() -> None:
    found = re.search(r"^\{.*\"cause\".*\}$", page(DOCUMENT), re.MULTILINE)
    assert found
    line = json.loads(found[0])
    assert tuple(line) == Record._fields
    (rows,) = tables(DOCUMENT, "What a line of the log says")
    compact = json.JSONEncoder(separators=(",", ":")).encode
    shown = {name: value if isinstance(value, str) else compact(value) for name, value in line.items()}
    assert {row[0].strip("`"): row[1].strip("`") for row in rows} == shown


def test_compose_file_gives_the_gateway_variables_that_it_understands() -> None:
    (block,) = [each for each in blocks(DOCUMENT, "In containers") if each.language == "yaml"]
    services = yaml.safe_load(block.text)["services"]
    settings = load(services["gateway"]["environment"], dotenv=None)
    assert settings.warnings == ()
    assert {each.host for each in settings.services} == set(services) - {"gateway"}
    for each in settings.services:
        assert str(each.port) in services[each.host]["command"]
