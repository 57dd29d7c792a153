"""The documents as tests read them: their blocks of code, and the tables below a heading.

What never lives here: what any one document has to say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and the heading that it stands below."""

    heading: str
    language: str
    text: str


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(document: str, heading: str | None = None) -> list[Block]:
    """Every fenced block, or those below one heading."""
    found = []
    below = ""
    for part in re.finditer(r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]*)$", page(document), re.MULTILINE | re.DOTALL):
        if part[3] is not None:
            below = part[3]
        elif heading in (None, below):
            found.append(Block(below, part[1], part[2]))
    return found


def tables(document: str, heading: str) -> Iterator[list[list[str]]]:
    """The cells of each table below a heading, without its head and its rule."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page(document), re.MULTILINE | re.DOTALL)
    assert section, f"{document} has no heading {heading!r}"
    for table in re.findall(r"(?:^\|.*\n)+", section[1] + "\n", re.MULTILINE):
        lines = table.splitlines()[2:]
        yield [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


def anchors(document: str) -> set[str]:
    """What a link may name behind ``#``, as GitHub makes it of a heading."""
    text = re.sub(r"^```.*?^```$", "", page(document), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
