import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_documents_name_is_there() -> None:
    architecture = (ROOT / "ARCHITECTURE.md").read_text()
    tables = architecture[
        architecture.index("## The server, stock against ours") : architecture.index("## On stock Hypercorn")
    ]
    named = set(re.findall(r"`(test_\w+)`", tables + (ROOT / "docs" / "server.md").read_text()))
    written = set()
    for file in (ROOT / "tests" / "server").glob("test_*.py"):
        written |= set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))
    assert len(named) > 80
    assert named - written == set()
