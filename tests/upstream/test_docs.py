"""docs/hypercorn.md names every reproduction, and what a reproduction names of ours is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [path.read_text() for path in sorted(Path(__file__).parent.glob("test_hypercorn*.py"))]
OURS = "\n".join(path.read_text() for path in sorted((ROOT / "gateway" / "server").glob("*.py")))


def test_document_names_every_reproduction_and_none_that_is_not_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "hypercorn.md").read_text()))
    written = {name for source in SOURCES for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    elsewhere = {"test_connection_is_used_again_after_each_answer_of_quart"}
    assert named - elsewhere == written


def test_every_remedy_that_a_reproduction_names_is_there() -> None:
    told = [each for source in SOURCES for each in re.findall(r"(?:still|dies_of)\(.*\)$", source, re.MULTILINE)]
    remedies = {name for each in told for name in re.findall(r"`([\w.]+)`", each)}
    assert len(remedies) > 10
    missing = {name for name in remedies if not all(re.search(rf"\b{part}\b", OURS) for part in name.split("."))}
    assert missing <= {"heads"}  # a module
