"""docs/comparison.md: what it says was seen is what docs/peers.md and docs/faults.md have seen."""

import re

import pytest

from .pages import page, tables

DOCUMENT = "docs/comparison.md"
(ROWS,) = tables(DOCUMENT, "Where they differ on the wire")
MARKS = "✗≠"


def found_in(document: str, name: str) -> dict[str, str]:
    """What each proxy did with the case or the fault of this name, where the document has it."""
    columns: list[str] = []
    for line in page(document).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if "Caddy" in cells:
            columns = cells
        elif cells[0].strip("`") == name and len(cells) == len(columns):
            return dict(zip(columns, cells, strict=True))
    return {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_what_is_said_of_a_proxy_was_seen(row: list[str]) -> None:
    proxies, name = row[0].split(", "), row[1].strip("`")
    seen = found_in("docs/peers.md", name)
    if seen:
        failed = {each for each in ("gateway", "nginx", "HAProxy", "Caddy", "Envoy") if set(seen[each]) & set(MARKS)}
        assert failed == set(proxies)
    else:
        seen = found_in("docs/faults.md", name)
        assert seen, f"neither page knows {name}"
        assert {each for each in ("nginx", "HAProxy", "Caddy", "Envoy") if "open" in seen[each]} == set(proxies)
        assert "open" not in seen["gateway"]


def test_each_proxy_that_is_measured_is_named() -> None:
    assert {each for row in ROWS for each in row[0].split(", ")} == {"nginx", "HAProxy", "Caddy", "Envoy"}


def test_figures_are_linked_and_not_copied() -> None:
    assert "performance.md#figures" in page(DOCUMENT)
    assert re.findall(r"\d+ ?(?:µs|requests/s)|\d+/\d+", page(DOCUMENT)) == []


def test_what_others_do_better_is_told_of_the_same_faults_in_their_page() -> None:
    ours = page(DOCUMENT).partition("## Where others do better")[2].partition("\n## ")[0]
    theirs = page("docs/faults.md").partition("Where others do better:")[2].partition("\n## ")[0]
    named = set(re.findall(r"\(`([\w-]+)`\)", ours))
    assert len(named) == 4
    assert named <= set(re.findall(r"`([\w-]+)`", theirs))
