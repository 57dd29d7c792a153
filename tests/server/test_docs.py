import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_document_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "server.md").read_text()))
    written = set()
    for file in (ROOT / "tests" / "server").glob("test_*.py"):
        written |= set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    assert len(named) > 80
    assert named - written == set()
